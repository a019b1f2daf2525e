"""Opens an image file within the service's documented limits and shrinks it to what labels need."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_PIXELS = 100_000_000  # https://www.filestack.com/docs/image-transformations/security
MAX_BYTES = 256 * 2**20  # the same page
WORKING_EDGE = 192  #: pixels of the longer side that labels are computed on
#: Only self-contained decoders: EPS, for one, would start Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PSD", "PPM", "AVIF", "ICO", "TGA", "JPEG2000")
UNSUPPORTED = {"JPEG2000": "image/jp2"}  #: identified, but refused by the service: filestack-js#259
_ORIENTATION = 0x0112  #: EXIF tag
_SHRINKS_AS_IT_IS = frozenset({"L", "RGB", "CMYK", "YCbCr"})
_DEEP = ("I", "F")  #: modes of more than eight bits a channel

Array = npt.NDArray[Any]

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow warns beyond it and refuses twice as many
warnings.simplefilter("error", Image.DecompressionBombWarning)  # so that both are errors


class UnreadableError(Exception):
    """No image that Pillow can read."""


class UnsupportedError(Exception):
    """An image of a type that the service refuses; the text is its media type."""


class TooLargeError(Exception):
    """More bytes or pixels than the service accepts."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    rgb: Array  #: float32, height x width x 3, 0..1, over white where transparent
    width: int  #: of the file, upright
    height: int
    transparent: float  #: share of see-through pixels


def open_picture(path: str | bytes, longest_edge: int = WORKING_EDGE) -> Picture:
    """Raise UnreadableError, UnsupportedError or TooLargeError. Blocks: meant for a thread."""
    if os.stat(path).st_size > MAX_BYTES:
        raise TooLargeError("file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            return _read(image, min(longest_edge, WORKING_EDGE))
    except (UnsupportedError, TooLargeError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLargeError("image") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise UnreadableError(type(error).__name__) from error


def measure(path: str | bytes) -> tuple[int, int] | None:
    """Width and height of an image file, None for anything else."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except Exception:  # noqa: BLE001 - as in `open_picture`
        return None


def _read(image: Image.Image, edge: int) -> Picture:
    if image.format in UNSUPPORTED:
        raise UnsupportedError(UNSUPPORTED[image.format])
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise TooLargeError("image")
    turn = image.getexif().get(_ORIENTATION, 1)
    image.draft("RGB", (2 * edge, 2 * edge))  # a JPEG decodes at an eighth for a fraction of the time
    pixels = _upright(_shrunk(image, edge), turn)
    if turn >= 5:  # noqa: PLR2004 - EXIF: 5 to 8 lie on their side
        width, height = height, width
    rgb, alpha = pixels[..., :3], pixels[..., 3:]
    return Picture(rgb * alpha + (1 - alpha), width, height, float((alpha < 0.5).mean()))  # noqa: PLR2004 - half


def _shrunk(image: Image.Image, edge: int) -> Array:
    """Red, green, blue and alpha from 0 to 1."""
    if image.mode.startswith(_DEEP):
        image = Image.fromarray(_eight_bits(np.asarray(image, dtype=np.float32)))
    if image.mode not in _SHRINKS_AS_IT_IS:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((edge, edge), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(image.convert("RGBA"), dtype=np.float32) / 255


def _eight_bits(values: Array) -> Array:
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / ((high - low) or 1) * 255
    return scaled.astype(np.uint8)


def _upright(pixels: Array, turn: int) -> Array:
    """Undo the camera's position, EXIF orientation 1 to 8."""
    if turn in {5, 6, 7, 8}:
        pixels = pixels.transpose(1, 0, 2)
    if turn in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if turn in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return pixels
