"""A server of a stub model, called in this process or over a socket."""

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import numpy as np
from PIL import Image

from deeplabx.process.signals import StopRequest
from deeplabx.report.overlay import overlay
from deeplabx.server.app import application
from deeplabx.server.contract import Limits, Segmentation, ServedModel
from deeplabx.server.front import Front
from deeplabx.server.listening import Server, bound_socket
from deeplabx.server.service import Service

CLASSES = ["background", "<b>bold</b>", "sky"]
PALETTE = [(0, 0, 0), (200, 30, 60), (20, 90, 250)]
LIMITS = Limits(max_bytes=100_000, max_pixels=10_000, queue=2, timeout=5.0)
HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
Segment = Callable[[np.ndarray, bool, StopRequest], Segmentation]


def ids_of(image: np.ndarray) -> np.ndarray:
    """What the stub predicts: the red channel's remainder."""
    return (image[..., 0] % len(CLASSES)).astype(np.uint8)


def segment(image: np.ndarray, probabilities: bool, stop: StopRequest) -> Segmentation:
    return Segmentation(ids_of(image), image[..., 1] if probabilities else None)


def model_of(function: Segment = segment) -> ServedModel:
    def drawn(image: np.ndarray, ids: np.ndarray, opacity: float) -> np.ndarray:
        return overlay(image, ids, PALETTE, opacity=opacity)

    return ServedModel(name="a stub", classes=CLASSES, palette=PALETTE, segment=function, overlay=drawn)


def photo(height: int = 20, width: int = 30, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def file_of(image: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=form, **options)
    return file.getvalue()


class Stub(NamedTuple):
    service: Service
    app: Front

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            return await client.request(method, path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self.request("GET", path, **options))

    def post(self, path: str, content: Any = None, **options: Any) -> httpx.Response:
        return asyncio.run(self.request("POST", path, content=content, **options))


def stub(function: Segment = segment, *, limits: Limits = LIMITS) -> Stub:
    service = Service(model_of(function), limits)
    service.start()
    return Stub(service, application(service, hosts=HOSTS))


@contextmanager
def listening(one: Stub) -> Iterator[tuple[int, StopRequest]]:
    """The stub on a port, in a thread; the port, and what stops it."""
    stop, ready = StopRequest(), threading.Event()
    with bound_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = Server(one.app, one.service, stop=stop, announce=ready.set)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        assert ready.wait(10)
        try:
            yield port, stop
        finally:
            stop.number = 15
            thread.join(10)
            assert not thread.is_alive()
