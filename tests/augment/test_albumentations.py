import inspect
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deeplabx.augment.albumentations import AlbumentationsAugment, refuse_unusable
from deeplabx.augment.catalogue import ALLOWED, COMPOSITIONS, REFUSED
from deeplabx.augment.transforms import Builder, library
from deeplabx.config.stored import to_plain
from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.loader import training_batches
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import ConfigError
from deeplabx.run.description import config_from_plain
from tests.augment.transforms import described
from tests.command.test_train import stopped_run, weights
from tests.conftest import Compose, Deeplabx, TrainTiny, python

FLIPS = [{"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5}]
MANY: list[dict[str, Any]] = [
    {"name": "Affine", "rotate": [-20, 20], "p": 0.5},
    {"name": "OneOf", "transforms": [{"name": "Blur"}, {"name": "RandomGamma"}], "p": 0.9},
    {"name": "SomeOf", "n": 1, "transforms": [{"name": "GaussNoise"}, {"name": "CoarseDropout"}]},
    {"name": "RandomScale", "scale_limit": [-0.5, 1.0], "p": 1},
]


def augment(transforms: Any, **others: Any) -> AlbumentationsAugment:
    given = {"crop_size": 33, "pad_pixel": (124, 116, 104), "ignore_index": 255, **others}
    return AlbumentationsAugment(transforms=transforms, **given)


def an_image(height: int = 60, width: int = 80, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(height + width)
    image = rng.integers(0, 256, (height, width, channels), np.uint8)
    return image, rng.integers(1, 4, (height, width), np.uint8)


# --- which --------------------------------------------------------------------------------------------------


def test_every_transform_of_the_library_is_allowed_or_refused_with_a_reason() -> None:
    module = library()
    assert module.__version__ == "2.0.8"
    kinds = {name: kind for name, kind in vars(module).items() if inspect.isclass(kind)}
    bases = {"BasicTransform", "DualTransform", "ImageOnlyTransform", "ToTensorV2", "ToTensor3D"}
    transforms = {
        name
        for name, kind in kinds.items()
        if issubclass(kind, module.BasicTransform) and not issubclass(kind, module.Transform3D)
    }
    assert transforms - bases == ALLOWED | set(REFUSED)
    assert not ALLOWED & set(REFUSED)
    compositions = {name for name, kind in kinds.items() if issubclass(kind, module.BaseCompose)}
    assert set(COMPOSITIONS) < compositions
    for name, known in COMPOSITIONS.items():
        assert set(known) < set(inspect.signature(kinds[name].__init__).parameters)


@pytest.mark.parametrize("name", sorted(ALLOWED - {"PiecewiseAffine"}))
def test_every_allowed_transform_can_be_used_and_gives_the_crop(name: str) -> None:
    transform = augment([described(name)], cat_max_ratio=0.9)
    image, label = an_image(130, 150)
    found = transform.described(image, label, np.random.default_rng(0))
    assert (found[0].shape, found[1].shape) == ((33, 33, 3), (33, 33))
    assert set(np.unique(found[1])) <= {1, 2, 3, 255}
    assert any(word.startswith(name) for word in found[2])
    again = transform(image, label, np.random.default_rng(0))
    assert np.array_equal(found[0], again[0])
    assert np.array_equal(found[1], again[1])


@pytest.mark.parametrize(
    ("channels", "fewest"), [(1, 70), pytest.param(4, 65, marks=pytest.mark.slow), (7, 60)]
)
def test_other_numbers_of_channels_work_or_are_refused_in_words(channels: int, fewest: int) -> None:
    image, label = an_image(130, 150, channels)
    working = 0
    for name in sorted(ALLOWED - {"PiecewiseAffine", "ThinPlateSpline", "ElasticTransform"}):
        try:
            transform = augment([described(name)], pad_pixel=tuple(range(channels)))
        except ConfigError as error:
            assert f"{name} does not work on images of {channels} channel" in error.message  # noqa: PT017
            continue
        found = transform(image, label, np.random.default_rng(1))
        assert found[0].shape == (33, 33, channels)
        assert set(np.unique(found[1])) <= {1, 2, 3, 255}
        working += 1
    assert working >= fewest


def test_a_transform_that_fails_without_a_message_is_refused() -> None:
    class Fails:
        def set_random_seed(self, seed: int) -> None: ...

        def __call__(self, **_: Any) -> Any:
            raise MemoryError

    with pytest.raises(ConfigError, match="Fails does not work on images of 3 channels .*: MemoryError"):
        refuse_unusable(Fails(), channels=3, ignore_index=255)


def test_labels_of_many_classes_keep_their_ids() -> None:
    image, label = an_image()
    wide = label.astype(np.uint16) * 300
    _, found = augment(MANY, ignore_index=65535)(image, wide, np.random.default_rng(3))
    assert found.dtype == np.uint16
    assert set(np.unique(found)) <= {300, 600, 900, 65535}


# --- arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ({"name": "HorizontlFlip"}, "HorizontlFlip is not a transform. Did you mean HorizontalFlip?"),
        ({"name": "os.system"}, "os.system is not a transform"),
        ({"name": "Compose", "transforms": []}, "Compose is not a transform"),
        ({"p": 1}, "has no name"),
        ({"name": "PadIfNeeded", "mask_value": 255}, "has no argument mask_value"),
        ({"name": "PadIfNeeded", "fill_masks": 255}, "no argument fill_masks. Did you mean fill_mask?"),
        ({"name": "HorizontalFlip", "p": 7}, "p=7: Input should be less than or equal to 1"),
        ({"name": "RandomScale", "scale_limit": "wide"}, "scale_limit=wide: Input should be a valid"),
        ({"name": "Resize", "height": 10}, "width: Field required"),
        ({"name": "Resize", "height": 10**9, "width": 9}, "height=1000000000 is out of range"),
        ({"name": "Affine", "rotate": float("nan")}, "rotate=nan is out of range"),
        ({"name": "Affine", "border_mode": "BORDER_REFLCT"}, "Did you mean BORDER_REFLECT?"),
        ({"name": "Affine", "fill_mask": 0}, "fill_mask=0 would label pixels that show nothing"),
        ({"name": "CoarseDropout", "fill_mask": 3}, "fill_mask=3 would label pixels"),
        ({"name": "PixelDropout", "mask_drop_value": 0}, "mask_drop_value=0 would label pixels"),
        ({"name": "Affine", "mask_interpolation": 1}, "labels are always resized by nearest"),
        ({"name": "Resize", "height": 9, "width": 9, "area_for_downscale": "image_mask"}, "average labels"),
        ({"name": "MotionBlur", "allow_shifted": True}, "would move the image, but not its label"),
        ({"name": "Equalize", "mask": "lambda: 0"}, "mask cannot be set"),
        ({"name": "TextImage", "font_path": "/etc/passwd"}, "TextImage cannot be used: it reads a font file"),
        ({"name": "Lambda", "image": "eval"}, "Lambda cannot be used: it calls functions"),
        ({"name": "Normalize"}, "Normalize cannot be used: it changes the type"),
        ({"name": "OneOf"}, "OneOf.transforms must be a list of transforms"),
        ({"name": "OneOf", "transforms": [{"name": "Blur"}], "p": 2}, "must be a probability"),
        ({"name": "OneOf", "transforms": [{"name": "Blur"}], "n": 2}, "has no argument n"),
        (
            {"name": "SomeOf", "transforms": [{"name": "Blur"}], "n": 2},
            "n=2 must be a whole number from 1 to 1",
        ),
        ({"name": "OneOf", "transforms": [{"name": "FDA"}]}, "OneOf.transforms[0] FDA cannot be used"),
        ({"name": "MedianBlur", "blur_limit": [4, 2]}, "MedianBlur"),
        ({"name": "AdditiveNoise", "noise_params": {"ranges": [["a"]]}}, "AdditiveNoise"),
    ],
)
def test_a_wrong_transform_is_answered_in_words(transform: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        augment([{"name": "HorizontalFlip"}, transform])
    assert words in str(caught.value)
    assert "transforms[1]" in str(caught.value)
    assert str(caught.value).count("\n") <= 2


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([0.5, 1, 2, 3, -1, [1, 2], [0.1, 0.9], "INTER_CUBIC", "random"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def parameters(name: str) -> list[str]:
    return [one for one in inspect.signature(getattr(library(), name).__init__).parameters if one != "self"]


@settings(deadline=None, max_examples=150)
@given(data=st.data(), name=st.sampled_from(sorted(ALLOWED)))
def test_any_arguments_are_taken_or_answered_in_words(data: st.DataObject, name: str) -> None:
    arguments = data.draw(st.dictionaries(st.sampled_from(parameters(name)), JUNK, max_size=3))
    try:
        Builder((1, 2, 3), 255).composed([{**described(name), **arguments}])
    except ConfigError as error:
        assert "augment.transforms[0]" in error.message  # noqa: PT017
        assert str(error).count("\n") <= 1  # noqa: PT017


def test_transforms_nested_too_deeply_are_refused() -> None:
    nested: dict[str, Any] = {"name": "Blur"}
    for _ in range(9):
        nested = {"name": "OneOf", "transforms": [nested]}
    with pytest.raises(ConfigError, match="nested deeper"):
        augment([nested])


def test_opencvs_constants_may_be_named_and_labels_may_be_kept_under_a_hole() -> None:
    image, label = an_image()
    named, numbered = (
        augment([{"name": "Affine", "rotate": 30, "interpolation": value, "border_mode": border}])
        for value, border in (("cv2.INTER_CUBIC", "BORDER_REFLECT_101"), (2, 4))
    )
    found, expected = (one(image, label, np.random.default_rng(0))[0] for one in (named, numbered))
    assert np.array_equal(found, expected)
    holes = {"name": "CoarseDropout", "p": 1}
    kept, ignored = (
        augment([holes | more])(image, label, np.random.default_rng(0)) for more in ({"fill_mask": None}, {})
    )
    assert np.array_equal(kept[0], ignored[0])
    assert 255 not in kept[1]
    assert (ignored[0][ignored[1] == 255] == (124, 116, 104)).all()


def test_a_transform_that_fails_on_an_image_is_an_error_in_words() -> None:
    with pytest.raises(ConfigError, match=r"failed on an image of 60 x 80: Crop size"):
        augment([{"name": "RandomCrop", "height": 70, "width": 70}])(*an_image(), np.random.default_rng(0))


# --- what is drawn ------------------------------------------------------------------------------------------


def test_transforms_are_drawn_independently() -> None:
    """With the library's own set_random_seed, two flips of probability 0.5 always come together."""
    image, label = an_image(33, 33)
    places = {image[row, column].tobytes(): (row, column) for row in (0, -1) for column in (0, -1)}
    transform = augment(FLIPS)
    corners = Counter(
        places[transform(image, label, np.random.default_rng(seed))[0][0, 0].tobytes()] for seed in range(800)
    )
    assert len(corners) == 4
    assert stats.chisquare(list(corners.values())).pvalue > 1e-3
    same_twice = [{"name": "RandomBrightnessContrast", "p": 0.5}] * 2
    applied = Counter(
        len(augment_words) for augment_words in (
            augment(same_twice).described(image, label, np.random.default_rng(seed))[2] for seed in range(60)
        )
    )  # fmt: skip
    assert applied[1] > 10


def test_adding_a_transform_at_the_end_changes_what_no_other_draws() -> None:
    image, label = an_image(33, 33)
    for seed in range(20):
        few, more = (
            augment(transforms).described(image, label, np.random.default_rng(seed))[2]
            for transforms in (MANY[:2], [*MANY[:2], {"name": "Posterize", "p": 1}])
        )
        assert more[: len(few)] == few


def test_a_result_of_another_size_is_padded_right_and_below_and_cropped() -> None:
    image, label = an_image(20, 25)
    found_image, found_label = augment([{"name": "NoOp"}])(image, label, np.random.default_rng(0))
    assert np.array_equal(found_image[:20, :25], image)
    assert np.array_equal(found_label[:20, :25], label)
    assert (found_image[20:] == (124, 116, 104)).all()
    assert (found_label[:, 25:] == 255).all()
    image, label = an_image()
    found_image, _ = augment([{"name": "NoOp"}])(image, label, np.random.default_rng(0))
    windows = np.lib.stride_tricks.sliding_window_view(image, (33, 33), (0, 1)).transpose(0, 1, 3, 4, 2)
    assert (windows == found_image).all((2, 3, 4)).sum() == 1


def test_the_last_crop_shows_a_class_that_is_wanted() -> None:
    image, label = an_image()
    label[50, 70] = 9
    cuts = [
        augment([{"name": "NoOp"}]).around(image, label, np.random.default_rng(seed), 9)[1]
        for seed in range(20)
    ]
    assert all((cut == 9).any() for cut in cuts)


def test_what_was_drawn_is_said_in_words() -> None:
    transforms = [
        {"name": "RandomBrightnessContrast", "brightness_limit": [0.1, 0.1], "p": 1},
        {
            "name": "OneOf",
            "transforms": [{"name": "Blur", "p": 0}, {"name": "HorizontalFlip", "p": 1}],
            "p": 1,
        },
    ]
    words = augment(transforms).described(*an_image(), np.random.default_rng(0))[2]
    assert words[0].startswith("RandomBrightnessContrast: alpha ")
    assert ", beta " in words[0]
    assert words[1] == "HorizontalFlip"
    assert words[2].startswith("crop at row ")


class Shapes(SegmentationSet):
    classes, palette = ["a", "b", "c", "d"], [(0, 0, 0)] * 4

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Sample:
        return Sample(*an_image(50 + index, 60))


def test_batches_depend_neither_on_workers_nor_on_where_a_run_was_resumed() -> None:
    def batches(workers: int, first_step: int = 0) -> list[Any]:
        found = training_batches(
            ReadableSet(Shapes()), augment(MANY), batch_size=3, seed=1, first_step=first_step, last_step=6,
            workers=workers, pin_memory=False,
        )  # fmt: skip
        return [batch for batch in found if batch is not None]

    whole = batches(0)
    for other in (batches(1), batches(2), [*whole[:4], *batches(0, first_step=4)]):
        for one, two in zip(whole, other, strict=True):
            assert np.array_equal(one.images, two.images)
            assert np.array_equal(one.labels, two.labels)


# --- commands -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_resumes_exactly_with_transforms_mix_and_class_sampling(
    train_tiny: TrainTiny, tmp_path: Path
) -> None:
    overrides = [
        "trainer.eval_every=4",
        "trainer.samples=0",
        "augment=albumentations",
        "augment.transforms=[{name:OneOf,transforms:[{name:GaussNoise},{name:Rotate,limit:[-9,9]}]},"
        "{name:RandomScale,scale_limit:[-0.5,1.0],p:1}]",
        "augment.mix=classmix",
        "augment.class_sampling=0.5",
        "augment.cat_max_ratio=0.8",
    ]
    whole = train_tiny("whole", *overrides)
    stopped_run(tmp_path / "part", *overrides)
    with pytest.raises(ConfigError, match=r"augment\.transforms was"):
        train_tiny("part", *overrides, "augment.transforms={name:HorizontalFlip}", "resume=true")
    with pytest.raises(ConfigError, match=r"augment\.class_sampling was 0\.5, now 0\.4"):
        train_tiny("part", *overrides, "augment.class_sampling=0.4", "resume=true")
    part = train_tiny("part", *overrides, "trainer.workers=1", "resume=true")
    assert weights(part) == weights(whole)


def test_transforms_survive_the_files_of_a_run(compose: Compose) -> None:
    config = compose(
        "augment=albumentations", "augment.transforms=[{name:Affine,rotate:[-5,5.5],fill_mask:255}]"
    )
    assert config.augment.transforms == [{"name": "Affine", "rotate": [-5, 5.5], "fill_mask": 255}]
    plain = to_plain(config)
    for text, read in ((json.dumps(plain), json.loads), (yaml.safe_dump(plain), yaml.safe_load)):
        assert config_from_plain(read(text)) == config


def test_endless_transforms_in_the_files_of_a_run_are_refused(compose: Compose) -> None:
    plain = to_plain(compose("augment=albumentations"))
    deep: Any = 1
    for _ in range(900):
        deep = {"x": deep}
    wide: Any = 1
    for _ in range(15):  # as aliases of YAML: 2 ** 15 values in 15 lists
        wide = [wide, wide]
    for value in (deep, wide):
        plain["augment"]["transforms"] = [{"name": "HorizontalFlip", "x": value}]
        with pytest.raises(ConfigError, match=r"augment\.transforms=.* is not a list such as"):
            config_from_plain(plain)


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ("[{name:HorizontalFlip,q:0.5}]", "HorizontalFlip has no argument q"),
        ("[{name:HorizontalFlip,_target_:os.system}]", "'_target_' is not the name of an argument"),
        ("[{name:Affine,rotate:.inf}]", "rotate"),
        ("[{p:0.5}]", "augment.transforms[0] has no name"),
        ("[5]", "augment.transforms"),
        ("[]", "augment.transforms=[] is empty"),
    ],
)
def test_the_command_line_answers_wrong_transforms_with_exit_code_2(
    deeplabx: Deeplabx, transforms: str, words: str
) -> None:
    ended = deeplabx(
        "train", "augment=albumentations", f"augment.transforms={transforms}", "trainer.devices=cpu"
    )
    assert ended.code == 2, ended.err
    assert words in ended.err
    assert ended.err.count("\n") <= 3


def test_the_library_is_imported_only_by_who_uses_it_and_asks_no_network(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import socket, sys
def refuse(*_, **__):
    raise SystemExit("a socket was made")
class Refused(socket.socket):
    __init__ = refuse
socket.socket, socket.create_connection, socket.getaddrinfo = Refused, refuse, refuse
import deeplabx
from deeplabx import registry
common = {"crop_size": 33, "pad_pixel": (1, 2, 3), "ignore_index": 255}
registry.build("augment", "standard", scale_min=1, scale_max=1, flip=0, **common)
registry.option("augment", "albumentations").builder
assert "albumentations" not in sys.modules
registry.build("augment", "albumentations", transforms=[{"name": "HorizontalFlip"}], **common)
assert "albumentations" in sys.modules
print("done")
""",
        encoding="utf-8",
    )
    ended = python(script, cwd=Path(sys.modules["deeplabx"].__file__ or "").parents[1])
    assert ended.out == "done\n", ended.err
