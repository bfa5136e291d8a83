"""What a client sends: the bytes of an image file."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import numpy as np

from deeplabx.dataset.image_file import opened_content, upright
from deeplabx.errors import DataError, byte_words
from deeplabx.server.contract import ClientGoneError, Limits, RefusedError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
NAME = "the image"
AS_BODY = "send the file itself as the body, as in curl --data-binary @photo.jpg"
# Baseline JPEGs have at most 4 scans, progressive ones about 10. Each takes as long as decoding a whole
# image, and a file of 1 MB can have 50,000.
MOST_SCANS = 200
START_OF_SCAN = b"\xff\xda"


def refuse_headers(headers: Mapping[str, str], limits: Limits) -> None:
    """Raise RefusedError for a body that cannot be used, before it is received."""
    stated = headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limits.max_bytes:
        raise too_large(limits, int(stated))
    if headers.get("content-type", "").startswith("multipart/"):
        raise RefusedError(415, "a form is not an image", hint=AS_BODY)
    if headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, "a compressed body is not accepted", hint=AS_BODY)


async def received(receive: Receive, limits: Limits) -> bytes:
    """The whole body. Raises RefusedError as soon as it is too large, and ClientGoneError."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > limits.max_bytes:
            raise too_large(limits)
        if not message.get("more_body", False):
            break
    if not body:
        raise RefusedError(400, "the request has no body", hint=AS_BODY)
    return bytes(body)


def too_large(limits: Limits, size: int | None = None) -> RefusedError:
    own = "" if size is None else f" of {byte_words(size)}"
    return RefusedError(
        413,
        f"the file{own} exceeds the limit of {byte_words(limits.max_bytes)}",
        hint="serve.max_bytes is the limit of this server",
    )


def image_of(content: bytes, limits: Limits, *, channels: list[int] | None) -> np.ndarray:
    """uint8 H x W x 3, as viewers show it. Raises RefusedError for what is no image, or one of too many
    pixels; those are counted in its header, before anything is decoded.
    """
    try:
        with opened_content(content, NAME, channels=channels) as found:
            width, height = found.header.size
            if width * height > limits.max_pixels:
                raise RefusedError(
                    413,
                    f"{NAME} has {width} x {height} pixels, which exceeds the limit of {limits.max_pixels:,}",
                    hint="serve.max_pixels is the limit of this server",
                )
            if found.header.lossy == "JPEG" and content.count(START_OF_SCAN) > MOST_SCANS:
                raise RefusedError(422, f"{NAME}: a JPEG of more than {MOST_SCANS} scans is not read")
            return upright(found, channels=channels)
    except DataError as error:
        raise RefusedError(422, error.message, hint=error.hint) from None
