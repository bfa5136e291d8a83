"""Images as PNG, fast."""

import io

import numpy as np
from PIL import Image


def png(image: np.ndarray) -> bytes:
    """uint8 RGB H x W x 3 as a PNG."""
    content = io.BytesIO()
    # On sheets of CamVid, level 1 takes a third of the time of zlib's own 6, for a tenth more bytes.
    Image.fromarray(image).save(content, format="PNG", compress_level=1)
    return content.getvalue()
