"""What kind of image bytes are, by their first bytes: names and extensions lie. Standard library only."""

from __future__ import annotations

import re

SNIFFED_BYTES = 1024  #: what `image_type` looks at

#: Magic numbers: https://www.iana.org/assignments/media-types and the formats' own specifications.
_PREFIXES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),  # BigTIFF
    (b"MM\x00+", "image/tiff"),
    (b"8BPS\x00", "image/vnd.adobe.photoshop"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"\xff\x0a", "image/jxl"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
)
#: Image brands of ISO base media files: https://mp4ra.org/registered-types/brands
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"hevc": "image/heic-sequence",
    b"hevx": "image/heic-sequence",
}
_GENERIC_BRANDS = {b"mif1": "image/heif", b"msf1": "image/heif-sequence"}
_BITMAP_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})  # "BM" alone begins many a text
_SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s|<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>]*>)*<(?:\w+:)?svg[\s>]", re.DOTALL
)


def image_type(head: bytes) -> str | None:
    """Return the media type, given the first `SNIFFED_BYTES` or the whole file; None for no known image."""
    for prefix, media_type in _PREFIXES:
        if head.startswith(prefix):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADER_SIZES:
        return "image/bmp"
    if head[4:8] == b"ftyp":
        return _type_of_brands(head)
    return "image/svg+xml" if _SVG.match(head[:SNIFFED_BYTES]) else None


def _type_of_brands(head: bytes) -> str | None:
    """A generic major brand leaves it to the compatible ones; a film's major brand is no image's."""
    major, box_end = head[8:12], min(int.from_bytes(head[:4], "big"), SNIFFED_BYTES)
    if major not in _GENERIC_BRANDS:
        return _BRANDS.get(major)
    compatible = (head[at : at + 4] for at in range(16, box_end, 4))
    return next((_BRANDS[brand] for brand in compatible if brand in _BRANDS), _GENERIC_BRANDS[major])
