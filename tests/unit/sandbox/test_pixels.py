"""Labels say what the pixels show."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tagmill.sandbox import pictures
from tagmill.sandbox.pictures import TooLargeError, UnreadableError, UnsupportedError, measure, open_picture
from tagmill.sandbox.pixels import CONFIDENT, LEAST, MOST, tag_picture


def labels_of(image: Image.Image, folder: Path, name: str = "picture.png") -> dict[str, int]:
    image.save(folder / name)
    return tag_picture(open_picture(str(folder / name)))


def seen(image: Image.Image, folder: Path, name: str = "picture.png") -> set[str]:
    return {label for label, confidence in labels_of(image, folder, name).items() if confidence >= CONFIDENT}


def ball(background: str = "white", at: tuple[int, int] = (300, 200)) -> Image.Image:
    image = Image.new("RGB", (600, 400), background)
    x, y = at
    ImageDraw.Draw(image).ellipse((x - 60, y - 60, x + 60, y + 60), fill=(20, 40, 160))
    return image


def noise() -> Image.Image:
    values = np.random.default_rng(1).integers(0, 255, (300, 300, 3))
    return Image.fromarray(values.astype("uint8"))


def landscape() -> Image.Image:
    image = Image.new("RGB", (600, 400), (120, 170, 235))
    ImageDraw.Draw(image).rectangle((0, 240, 600, 400), fill=(50, 110, 40))
    return image


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((220, 20, 20), "red"),
        ((250, 150, 20), "orange"),
        ((250, 230, 30), "yellow"),
        ((30, 160, 40), "green"),
        ((20, 40, 200), "blue"),
        ((110, 30, 190), "purple"),
        ((120, 70, 30), "brown"),
        ((255, 180, 200), "pink"),
        ((128, 128, 128), "gray"),
        ((3, 3, 3), "black"),
        ((254, 254, 254), "white"),
    ],
)
def test_a_plain_colour_is_named(tmp_path: Path, colour: tuple[int, int, int], name: str) -> None:
    labels = labels_of(Image.new("RGB", (64, 64), colour), tmp_path)
    assert (labels[name], labels["solid color"]) == (100, 100)


@pytest.mark.parametrize(
    ("image", "present", "absent"),
    [
        (Image.new("RGB", (90, 60), "white"), {"bright", "high key"}, {"dark", "low key"}),
        (Image.new("RGB", (90, 60), (10, 10, 12)), {"dark", "low key"}, {"bright", "high key"}),
        (ball(), {"centered subject", "plain background", "symmetrical"}, {"busy", "rule of thirds"}),
        (ball(at=(200, 133)), {"rule of thirds", "single subject"}, {"centered subject"}),
        (noise(), {"busy", "textured", "sharp", "many colors"}, {"minimal", "smooth", "plain background"}),
        (
            landscape(),
            {"horizon", "blue", "green", "landscape orientation"},
            {"monochrome", "vertical gradient"},
        ),
        (
            Image.linear_gradient("L"),
            {"vertical gradient", "monochrome"},
            {"horizon", "horizontal gradient", "vivid"},
        ),
        (Image.new("RGB", (60, 90), "red"), {"portrait orientation", "warm colors"}, {"cool colors"}),
        (Image.new("RGB", (90, 90), "blue"), {"square format", "cool colors"}, {"panorama", "warm colors"}),
        (Image.new("RGB", (300, 90), "blue"), {"panorama", "landscape orientation"}, {"square format"}),
    ],
)
def test_labels_fit_the_picture(
    tmp_path: Path, image: Image.Image, present: set[str], absent: set[str]
) -> None:
    labels = seen(image, tmp_path)
    assert present <= labels
    assert not absent & labels


def test_blur_is_told_from_sharpness(tmp_path: Path) -> None:
    sharp = labels_of(ball(), tmp_path)
    blurred = labels_of(ball().filter(ImageFilter.GaussianBlur(25)), tmp_path)
    assert sharp.get("sharp", 0) > sharp.get("blurry", 0)
    assert blurred["blurry"] > blurred.get("sharp", 0)


@pytest.mark.parametrize(
    "image", [ball(), noise(), landscape(), Image.new("RGB", (1, 1)), Image.new("RGB", (500, 1))]
)
def test_there_are_ten_to_twenty_labels_of_integers(tmp_path: Path, image: Image.Image) -> None:
    labels = labels_of(image, tmp_path)
    assert LEAST <= len(labels) <= MOST
    assert all(label == label.lower() for label in labels)
    assert all(type(confidence) is int and 0 <= confidence <= 100 for confidence in labels.values())


def test_the_same_pixels_get_the_same_labels(tmp_path: Path) -> None:
    assert labels_of(noise(), tmp_path) == labels_of(noise(), tmp_path, "other.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_is_read(tmp_path: Path, mode: str) -> None:
    name = "picture.tif" if mode in {"CMYK", "F"} else "picture.png"
    image = Image.linear_gradient("L").convert("I").convert(mode) if mode == "I;16" else ball().convert(mode)
    assert len(labels_of(image, tmp_path, name)) >= LEAST


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.gif", "a.bmp", "a.tif"])
def test_common_formats_are_read(tmp_path: Path, name: str) -> None:
    assert "plain background" in seen(ball(), tmp_path, name)


def test_a_transparent_background_is_seen_over_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    assert {"transparent background", "white"} <= seen(image, tmp_path)


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_cameras_position_is_undone(tmp_path: Path, turn: int) -> None:
    upright = landscape()
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation -> Pillow transpose that leads to it
    stored = upright if turn == 1 else upright.transpose(Image.Transpose(undo[turn]))
    exif = Image.Exif()
    exif[0x0112] = turn
    stored.save(tmp_path / "a.png", exif=exif)
    picture = open_picture(str(tmp_path / "a.png"))
    assert (picture.width, picture.height) == upright.size
    assert picture.rgb[5, 5, 2] > 0.8  # the sky is on top


def png_that_claims(width: int, height: int) -> bytes:
    def block(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + block(b"IHDR", header)
        + block(b"IDAT", zlib.compress(b""))
        + block(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(10_001, 10_000), (14_000, 10_000), (50_000, 50_000)])
def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(png_that_claims(*size))
    with pytest.raises(TooLargeError):
        open_picture(str(tmp_path / "bomb.png"))


def test_too_many_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ball().save(tmp_path / "a.bmp")
    monkeypatch.setattr(pictures, "MAX_BYTES", 1_000)
    with pytest.raises(TooLargeError):
        open_picture(str(tmp_path / "a.bmp"))


def test_jpeg_2000_is_identified_but_refused(tmp_path: Path) -> None:
    ball().save(tmp_path / "a.jp2")
    with pytest.raises(UnsupportedError, match="image/jp2"):
        open_picture(str(tmp_path / "a.jp2"))


@pytest.mark.parametrize(
    "content", [b"", b"text", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"GIF89a", b"\xff\xd8\xff\xe0"]
)
def test_what_is_no_image_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UnreadableError):
        open_picture(str(tmp_path / "a"))
    assert measure(str(tmp_path / "a")) is None


def test_a_cut_off_image_is_unreadable(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableError):
        open_picture(str(tmp_path / "a.jpg"))
