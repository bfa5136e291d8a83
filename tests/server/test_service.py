import asyncio
import io
import struct
import threading
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from deeplabx.engine.predictor import InterruptedPredictionError
from deeplabx.errors import DataError, ResourceError
from deeplabx.process.signals import StopRequest
from deeplabx.server.contract import Segmentation
from tests.server.stub import LIMITS, Stub, file_of, ids_of, photo, segment, stub


class Held:
    """A stub that predicts when it is let go; the first prediction is the server's own."""

    def __init__(self) -> None:
        self.started, self.free = threading.Semaphore(0), threading.Semaphore(1)
        self.calls = 0

    def __call__(self, image: np.ndarray, probabilities: bool, stop: StopRequest) -> Segmentation:
        self.calls += 1
        self.started.release()
        while not self.free.acquire(timeout=0.01):
            if stop.number is not None:
                raise InterruptedPredictionError(stop.number)
        return segment(image, probabilities, stop)


async def begun(held: Held, calls: int) -> None:
    while held.calls < calls:
        await asyncio.sleep(0.005)


def failing_with(error: Exception) -> Stub:
    """A server whose second prediction raises an error."""
    calls: list[int] = []

    def function(image: np.ndarray, *_: Any) -> Segmentation:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return Segmentation(ids_of(image))

    return stub(function)


# --- the queue ----------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_tells_when_to_come_again() -> None:
    held = Held()
    server = stub(held)

    async def fill() -> list[httpx.Response]:
        accepted = [
            asyncio.create_task(server.request("POST", "/predict", content=file_of(photo())))
            for _ in range(2)
        ]
        await begun(held, 2)
        refused = await server.request("POST", "/predict", content=file_of(photo()))
        told = await server.request("GET", "/metrics")
        assert "deeplabx_queue_length 2" in told.text
        held.free.release(2)
        return [refused, *await asyncio.gather(*accepted)]

    refused, *accepted = asyncio.run(fill())
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "2 places" in refused.json()["error"]
    assert [one.status_code for one in accepted] == [200, 200]
    assert server.service.accepted == 0


def test_predictions_are_made_one_at_a_time_in_one_thread() -> None:
    threads: list[str] = []
    now = 0

    def alone(image: np.ndarray, *_: Any) -> Segmentation:
        nonlocal now
        now += 1
        assert now == 1
        time.sleep(0.02)
        now -= 1
        threads.append(threading.current_thread().name)
        return Segmentation(ids_of(image))

    server = stub(alone, limits=replace(LIMITS, queue=8))

    async def many() -> list[httpx.Response]:
        return await asyncio.gather(
            *(server.request("POST", "/predict", content=file_of(photo())) for _ in range(8))
        )

    assert {one.status_code for one in asyncio.run(many())} == {200}
    assert set(threads) == {"prediction"}


def test_other_requests_are_answered_during_a_prediction() -> None:
    held = Held()
    server = stub(held)

    async def during() -> httpx.Response:
        task = asyncio.create_task(server.request("POST", "/predict", content=file_of(photo())))
        await begun(held, 2)
        health = await server.request("GET", "/health")
        held.free.release()
        await task
        return health

    assert asyncio.run(during()).json() == {"status": "ok"}


def test_a_prediction_that_takes_too_long_is_stopped_and_one_that_waits_for_it_is_not_begun() -> None:
    held = Held()
    server = stub(held, limits=replace(LIMITS, timeout=0.2))

    async def two() -> list[httpx.Response]:
        first = asyncio.create_task(server.request("POST", "/predict", content=file_of(photo())))
        await begun(held, 2)
        second = asyncio.create_task(server.request("POST", "/predict", content=file_of(photo())))
        return [await first, await second]

    first, second = asyncio.run(two())
    assert (first.status_code, second.status_code) == (504, 503) or second.status_code == 504
    assert "0.2 s" in first.json()["error"]
    held.free.release(2)
    assert server.post("/predict", file_of(photo())).status_code == 200


async def closing_client(server: Stub, when_begun: Held, *, body: bytes) -> int:
    """The calls of the predictor when the client closes the connection after it has sent the image."""
    gone = asyncio.Event()
    sent = [{"type": "http.request", "body": body, "more_body": False}]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "raw_path": b"/predict",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }

    async def receive() -> Any:
        if sent:
            return sent.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        return None

    first = asyncio.create_task(server.request("POST", "/predict", content=body))
    await begun(when_begun, 2)
    second = asyncio.create_task(server.app(scope, receive, send))
    await asyncio.sleep(0.05)
    gone.set()
    await second
    when_begun.free.release()
    await first
    return when_begun.calls


def test_an_image_whose_client_has_gone_is_not_predicted() -> None:
    held = Held()
    server = stub(held)
    assert asyncio.run(closing_client(server, held, body=file_of(photo()))) == 2
    assert server.service.accepted == 0


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 2.00 GiB for an array with shape (9, 9)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 400000 bytes."),
        ResourceError("out of memory on GPU 0"),
    ],
)
def test_too_little_memory_for_an_image_is_507_and_no_end(error: Exception) -> None:
    server = failing_with(error)
    response = server.post("/predict", file_of(photo()))
    assert response.status_code == 507
    assert response.json()["error"].startswith("out of memory")
    assert server.post("/predict", file_of(photo())).status_code == 200


def test_an_image_that_does_not_fit_the_model_is_422() -> None:
    response = failing_with(DataError("the image has 3 channels, the model needs 4")).post(
        "/predict", file_of(photo())
    )
    assert response.status_code == 422
    assert response.json() == {"error": "the image has 3 channels, the model needs 4"}


def test_a_model_that_cannot_predict_does_not_begin_to_serve() -> None:
    def broken(image: np.ndarray, *_: Any) -> Segmentation:
        raise ResourceError("out of memory")

    with pytest.raises(ResourceError, match="out of memory"):
        stub(broken)


# --- what is sent -------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG of few bytes and 40,000 x 40,000 pixels."""
    whole = bytearray(file_of(np.zeros((1, 1, 3), np.uint8)))
    whole[16:24] = (40_000).to_bytes(4) * 2
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4)
    return bytes(whole)


def sixteen_bit() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(file, format="PNG")
    return file.getvalue()


def two_pages() -> bytes:
    file = io.BytesIO()
    pages = [Image.fromarray(photo(seed=seed)) for seed in range(2)]
    pages[0].save(file, format="TIFF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def tables(count: int) -> bytes:
    """A TIFF of this many tables of tags, each of 18 bytes."""
    nexts = [8 + 18 * (index + 1) for index in range(count - 1)] + [0]
    return (
        b"II*\0"
        + struct.pack("<I", 8)
        + b"".join(struct.pack("<HHHIII", 1, 254, 4, 1, 1, following) for following in nexts)
    )


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "no body"),
        (b"hello", 422, "not a readable image"),
        (b"%PDF-1.7 ...", 422, "a PDF file"),
        (file_of(photo(), "JPEG")[:300], 422, "the image"),
        (file_of(photo())[:200], 422, "the image"),
        (bomb(), 422, "40000 x 40000 pixels"),
        (file_of(photo(101, 100)), 413, "101"),
        (b"x" * 100_001, 413, "exceeds the limit of 98 KiB"),
        (sixteen_bit(), 422, "more than 8 bits"),
        (two_pages(), 422, "2 pages"),
        (tables(1001), 422, "more than 1000 pages"),
        (file_of(photo(), "JPEG")[:-2] + b"\xff\xda" * 201, 422, "scans"),
    ],
)
def test_what_is_no_usable_image_is_refused_in_words(body: bytes, status: int, words: str) -> None:
    server = stub()
    response = server.post("/predict", body)
    assert response.status_code == status
    assert words in response.json()["error"]
    assert server.post("/predict", file_of(photo())).status_code == 200


@pytest.mark.parametrize("form", ["JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF"])
def test_every_format_is_read(form: str) -> None:
    assert stub().post("/predict", file_of(photo(), form)).status_code == 200


def test_cmyk_and_grey_are_read() -> None:
    for mode in ("CMYK", "L"):
        file = io.BytesIO()
        Image.fromarray(photo()).convert(mode).save(file, format="JPEG")
        assert stub().post("/predict", file.getvalue()).status_code == 200


async def endless(taken: list[int]) -> AsyncIterator[bytes]:
    while True:
        taken.append(1)
        yield b"x" * 1000


def test_a_body_without_a_length_is_received_up_to_the_limit() -> None:
    taken: list[int] = []
    response = stub().post("/predict", endless(taken))
    assert response.status_code == 413
    assert len(taken) <= 102


def test_a_length_beyond_the_limit_is_refused_before_anything_is_received() -> None:
    taken: list[int] = []
    response = stub().post("/predict", endless(taken), headers={"content-length": "100001"})
    assert (response.status_code, taken) == (413, [])


@pytest.mark.parametrize(
    "headers", [{"content-type": "multipart/form-data; boundary=x"}, {"content-encoding": "gzip"}]
)
def test_a_form_and_a_packed_body_are_refused_with_what_to_do(headers: dict[str, str]) -> None:
    response = stub().post("/predict", file_of(photo()), headers=headers)
    assert response.status_code == 415
    assert "curl --data-binary" in response.json()["hint"]


def test_a_slow_image_is_refused() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(10)

    response = stub(limits=replace(LIMITS, timeout=0.1)).post("/predict", slow())
    assert response.status_code == 408
