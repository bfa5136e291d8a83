"""Images as data URIs: small enough for a page, exact where pixels are ids."""

import base64
import io

import cv2
import numpy as np
from PIL import Image

QUALITY = 82  # of WebP: on CamVid's frames at 640 pixels, 40 KiB instead of PNG's 500
FEW_COLOURS = 256


def shrunk(image: np.ndarray, *, most: int, exact: bool = False) -> np.ndarray:
    """An image H x W or H x W x C whose longest side is at most `most`. exact: nearest neighbour, for ids;
    otherwise the mean of the pixels that become one.
    """
    height, width = image.shape[:2]
    scale = most / max(height, width)
    if scale >= 1:
        return image
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    if exact:
        return nearest(image, height=height, width=width)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def nearest(values: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Values H x W or H x W x C of any type at another size: those at the centres of the new pixels."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip((height, width), values.shape[:2], strict=True)
    )
    return np.ascontiguousarray(values[rows[:, None], columns])


def data_uri(image: np.ndarray, *, exact: bool = False) -> str:
    """uint8 H x W x 3 or H x W as `data:image/...`: PNG if exact, else WebP."""
    shown = Image.fromarray(np.ascontiguousarray(image))
    content = io.BytesIO()
    if exact:
        if shown.mode == "RGB" and shown.getcolors(FEW_COLOURS) is not None:  # a third of the bytes
            shown = with_palette(image)
        shown.save(content, format="PNG", optimize=True)
    else:
        shown.convert("RGB").save(content, format="WEBP", quality=QUALITY, method=2)
    kind = "png" if exact else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def with_palette(image: np.ndarray) -> Image.Image:
    """An image of at most 256 colours as indices of them."""
    codes = image.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    known, indices = np.unique(codes, return_inverse=True)
    indexed = Image.fromarray(indices.reshape(codes.shape).astype(np.uint8))
    indexed.putpalette([int(code) >> shift & 255 for code in known for shift in (16, 8, 0)])
    return indexed
