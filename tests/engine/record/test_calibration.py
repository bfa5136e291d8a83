import numpy as np

from deeplabx.engine.record.calibration import BINS, pixels_by_confidence


def test_bins_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 3, (2, 20, 30)).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = 255
    confidence = rng.random(label.shape).astype(np.float32)
    confidence[0, :4] = [0.0, 1.0, 0.5, np.nextafter(np.float32(0.5), np.float32(0))]
    expected = np.zeros((BINS, 3))
    for own, found, sure in zip(label.flat, predicted.flat, confidence.flat, strict=True):
        if own != 255:
            one = min(int(float(sure) // 0.05 if sure < 1 else BINS - 1), BINS - 1)
            while one + 1 < BINS and float(sure) >= (one + 1) / BINS:
                one += 1
            expected[one] += [1, own == found, float(sure)]
    found = pixels_by_confidence(label, predicted, confidence, ignore_index=255)
    assert np.array_equal(found[:, :2], expected[:, :2])
    assert np.allclose(found[:, 2], expected[:, 2], rtol=1e-12)
    assert found[:, 0].sum() == (label != 255).sum()


def test_an_image_without_a_valid_pixel_adds_nothing() -> None:
    void = np.full((3, 4), 255, np.uint8)
    assert not pixels_by_confidence(void, void * 0, np.ones((3, 4)), ignore_index=255).any()
