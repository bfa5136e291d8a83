import asyncio
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.writing import write_ids
from deeplabx.report.overlay import overlay
from deeplabx.server.answers import id_map
from deeplabx.server.contract import Segmentation
from tests.dataset.test_rle import decoded
from tests.server.stub import CLASSES, PALETTE, file_of, ids_of, model_of, photo, stub


def test_ids_are_those_that_predict_writes(tmp_path: Path) -> None:
    image = photo()
    response = stub().post("/predict/ids.png", file_of(image))
    write_ids(tmp_path / "ids.png", ids_of(image), PALETTE)
    assert response.headers["content-type"] == "image/png"
    assert response.content == (tmp_path / "ids.png").read_bytes()


@pytest.mark.parametrize("opacity", ["0", "0.3", "1"])
def test_an_overlay_has_the_opacity_that_is_asked_for(opacity: str) -> None:
    image = photo()
    response = stub().post(f"/predict/overlay.png?opacity={opacity}", file_of(image))
    expected = overlay(image, ids_of(image), PALETTE, opacity=float(opacity))
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(response.content))), expected)


@pytest.mark.parametrize("opacity", ["-0.1", "1.1", "nan", "half"])
def test_an_opacity_that_is_none_is_refused(opacity: str) -> None:
    response = stub().post(f"/predict/overlay.png?opacity={opacity}", file_of(photo()))
    assert response.status_code == 422
    assert f"opacity={opacity}" in response.json()["error"]


def test_classes_come_with_their_shares_and_masks() -> None:
    image = photo()
    found = stub().post("/predict", file_of(image)).json()
    ids = ids_of(image)
    assert (found["width"], found["height"]) == (30, 20)
    assert [one["pixels"] for one in found["classes"]] == sorted(np.bincount(ids.ravel()), reverse=True)
    for one in found["classes"]:
        assert (one["name"], one["colour"]) == (CLASSES[one["id"]], list(PALETTE[one["id"]]))
        assert one["share"] == pytest.approx(one["pixels"] / 600, abs=1e-6)
        assert one["rle"]["size"] == [20, 30]
        mask = decoded(one["rle"]["counts"], height=20, width=30)
        np.testing.assert_array_equal(mask, ids == one["id"])


def test_the_map_has_ids_and_probabilities() -> None:
    image = photo()
    response = stub().post("/predict/map", file_of(image))
    assert response.headers["x-width"] == "30"
    assert response.headers["x-height"] == "20"
    ids, probabilities = np.frombuffer(response.content, np.uint8).reshape(2, 20, 30)
    np.testing.assert_array_equal(ids, ids_of(image))
    np.testing.assert_array_equal(probabilities, image[..., 1])


def test_the_map_of_many_classes_has_two_bytes_an_id_and_says_where_probabilities_are_not_known() -> None:
    server = stub(lambda image, *_: Segmentation(image[..., 0].astype(np.uint16) + 300))
    image = photo()
    response = server.post("/predict/map", file_of(image))
    assert (response.headers["x-id-bytes"], response.headers["x-probabilities"]) == ("2", "0")
    np.testing.assert_array_equal(
        np.frombuffer(response.content, "<u2").reshape(20, 30), image[..., 0].astype(int) + 300
    )


def test_an_image_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = photo()
    response = stub().post("/predict/ids.png", file_of(image, "PNG", exif=exif.tobytes()))
    with Image.open(io.BytesIO(response.content)) as ids:
        np.testing.assert_array_equal(np.array(ids), np.rot90(ids_of(image), -1))


def test_the_page_needs_nothing_from_elsewhere() -> None:
    server = stub()
    for path in ("/", "/page.js", "/page.css", "/favicon.svg"):
        response = server.get(path)
        assert response.status_code == 200
        assert "//" not in response.text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")
    policy = server.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "<script>" not in server.get("/").text
    assert "style=" not in server.get("/").text


def test_the_classes_are_told() -> None:
    told = stub().get("/classes").json()
    assert [one["name"] for one in told["classes"]] == CLASSES
    assert told["classes"][1]["colour"] == [200, 30, 60]
    assert told["max_pixels"] == 10_000


def test_the_endpoints_are_described() -> None:
    described = stub().get("/openapi.json").json()
    posts = {path for path, ways in described["paths"].items() if "post" in ways}
    assert posts == {"/predict", "/predict/ids.png", "/predict/overlay.png", "/predict/map"}
    assert {"/classes", "/health", "/metrics"} <= set(described["paths"])
    assert "413" in described["paths"]["/predict"]["post"]["responses"]


def test_health_is_503_while_the_server_stops_and_images_are_refused() -> None:
    server = stub()
    assert (server.get("/health").status_code, server.get("/health").json()) == (200, {"status": "ok"})
    server.service.stopping = True
    assert server.get("/health").status_code == 503
    refused = server.post("/predict", file_of(photo()))
    assert refused.status_code == 503
    assert refused.json()["error"] == "the server is stopping"
    assert refused.headers["retry-after"] == "10"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("PUT", "/classes", 405),
        ("GET", "/nothing", 404),
        ("GET", "/docs", 404),
        ("POST", "/predict/", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%00", 404),
    ],
)
def test_other_paths_and_methods_are_answered_in_words(method: str, path: str, status: int) -> None:
    response = asyncio.run(stub().request(method, path))
    assert response.status_code == status
    assert response.json()["error"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_an_internal_error_is_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []

    def fails_once(image: np.ndarray, *_: object) -> Segmentation:
        calls.append(1)
        if len(calls) == 2:  # the first is the server's own
            raise ZeroDivisionError("secret")
        return Segmentation(ids_of(image))

    server = stub(fails_once)
    response = server.post("/predict", file_of(photo()))
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "ZeroDivisionError: secret" in capsys.readouterr().err
    assert server.post("/predict", file_of(photo())).status_code == 200


def test_what_is_packed_is_gzip() -> None:
    found = Segmentation(ids_of(photo()))
    assert gzip.decompress(id_map(model_of(), photo(), found).body) == found.ids.tobytes()


def test_a_class_name_stays_text() -> None:
    body = stub().post("/predict", file_of(photo())).content
    assert json.loads(body)["classes"][0]["name"] in CLASSES
    assert "innerHTML" not in stub().get("/page.js").text
