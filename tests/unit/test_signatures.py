"""Bytes tell what they are."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tagmill.worker.signatures import image_type


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("GIF", "image/gif"),
        ("WEBP", "image/webp"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("ICO", "image/x-icon"),
        ("AVIF", "image/avif"),
        ("JPEG2000", "image/jp2"),
    ],
)
def test_what_an_encoder_writes_is_recognised(kind: str, media_type: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(file, kind)
    assert image_type(file.getvalue()) == media_type


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + major + b"\0\0\0\0" + b"".join(compatible)
    return struct.pack(">I", len(body) + 4) + body + b"\0" * 40


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (ftyp(b"heic", b"mif1"), "image/heic"),
        (ftyp(b"mif1", b"mif1", b"heic"), "image/heic"),
        (ftyp(b"mif1", b"miaf", b"avif"), "image/avif"),
        (ftyp(b"mif1"), "image/heif"),
        (ftyp(b"msf1", b"hevc"), "image/heic-sequence"),
        (ftyp(b"isom", b"avif"), None),
        (ftyp(b"mp42", b"mp41"), None),
        (b"\xff\xff\xff\xffftypmif1" + b"\0" * 2000, "image/heif"),
        (b"MM\x00*" + b"\0" * 20, "image/tiff"),
        (b"MM\x00+" + b"\0" * 20, "image/tiff"),
        (b"8BPS\x00\x01" + b"\0" * 20, "image/vnd.adobe.photoshop"),
        (b"\xff\x0a" + b"\0" * 20, "image/jxl"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "image/svg+xml"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a\nb -->\n<!DOCTYPE svg>\n<svg\n>', "image/svg+xml"),
        (b"<s:svg >", "image/svg+xml"),
        (b"<html><svg></svg></html>", None),
        (b"<svgx>", None),
        (b"BM but only text that goes on for a while", None),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"%PDF-1.7", None),
        (b"PK\x03\x04", None),
        (b"", None),
    ],
)
def test_by_the_first_bytes(head: bytes, media_type: str | None) -> None:
    assert image_type(head) == media_type


@given(st.binary(max_size=2000))
def test_no_bytes_break_it(head: bytes) -> None:
    image_type(head)
