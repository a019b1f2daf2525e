"""What the tasks beside `tags` answer: from the pixels by plain rules, or always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from servers.sandbox import SandboxUnderTest

from tagmill.sandbox.answers import ANSWERS, answer
from tagmill.sandbox.pictures import open_picture
from tagmill.sandbox.urls import Task

MAGENTA = (255, 0, 255)


def answered(task: str, image: Image.Image, folder: Path) -> Any:
    image.save(folder / "picture.png")
    return answer(Task(task, {}), open_picture(str(folder / "picture.png")))


def framed(colour: str | tuple[int, int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A white picture of 600 by 400 with a rectangle in it."""
    image = Image.new("RGB", (600, 400), "white")
    ImageDraw.Draw(image).rectangle(box, fill=colour)
    return image


def test_what_is_magenta_by_half_is_not_safe(tmp_path: Path) -> None:
    assert answered("sfw", framed(MAGENTA, (0, 0, 320, 400)), tmp_path) == {"sfw": False}
    assert answered("sfw", framed(MAGENTA, (0, 0, 280, 400)), tmp_path) == {"sfw": True}


@pytest.mark.parametrize(
    ("image", "caption"),
    [
        (Image.new("RGB", (60, 40), (220, 20, 20)), "a dark landscape picture in red"),
        (Image.new("RGB", (40, 60), (10, 10, 12)), "a dark portrait picture in black"),
        (framed((20, 40, 200), (0, 0, 250, 400)), "a bright landscape picture in white and blue"),
        (Image.new("RGB", (60, 40), (128, 128, 128)), "a landscape picture in gray"),
        (Image.new("RGB", (50, 50), "white"), "a bright square picture in white"),
    ],
)
def test_a_caption_names_light_format_and_colours(tmp_path: Path, image: Image.Image, caption: str) -> None:
    assert answered("caption", image, tmp_path) == {"caption": caption}


def test_a_document_is_what_is_unlike_the_border(tmp_path: Path) -> None:
    coords = answered("doc_detection", framed("black", (150, 100, 449, 299)), tmp_path)["coords"]
    expected = {"x": 150, "y": 100, "width": 300, "height": 200}
    assert all(abs(coords[name] - value) <= 600 / 192 + 1 for name, value in expected.items())
    assert answered("doc_detection", Image.new("RGB", (60, 40)), tmp_path) == {
        "coords": {"x": 0, "y": 0, "width": 60, "height": 40}
    }


@pytest.mark.parametrize(
    ("task", "nothing"),
    [
        ("ocr", {"document": {"text_areas": []}}),
        ("image_sentiment", {"emotions": {}}),
        ("copyright", {"copyright": False, "licenses": []}),
    ],
)
def test_what_the_sandbox_does_not_see_it_does_not_find(tmp_path: Path, task: str, nothing: object) -> None:
    assert answered(task, framed("black", (0, 0, 9, 9)), tmp_path) == nothing


# --- over HTTP --------------------------------------------------------------------------------------------


def path_of(sandbox: SandboxUnderTest, handle: str, task: str) -> str:
    parameters = "=coords:true,preprocess:true" if task == "doc_detection" else ""
    return f"/{sandbox.security()}/{task}{parameters}/{handle}"


@pytest.mark.parametrize("task", ANSWERS)
def test_every_task_is_a_call_that_is_billed_once(sandbox: SandboxUnderTest, handle: str, task: str) -> None:
    first, again = (sandbox.send(path_of(sandbox, handle, task)) for _ in range(2))
    assert first.status == 200
    assert first.body == again.body
    stats = sandbox.stats()
    assert (stats["calls"], stats["billed"], stats["cached"]) == (2, 1, 1)
    assert [request["task"] for request in sandbox.requests()] == [task, task]


def test_an_external_image_is_looked_at_in_the_same_way(sandbox: SandboxUnderTest) -> None:
    path = f"/{sandbox.key}/{sandbox.security()}/caption/src://photos/red.png"
    assert sandbox.send(path).json == {"caption": "a dark landscape picture in red"}


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("sfw=level:2", "invalid parameter `level` for `sfw` task\n"),
        ("doc_detection=coords:false", "invalid parameter `coords` for `doc_detection` task\n"),
        ("doc_detection", "the sandbox answers `doc_detection` with `coords:true` only\n"),
        (
            "resize=w:9/doc_detection=coords:true",
            "the sandbox does not offer `resize` before `doc_detection`\n",
        ),
        ("tags/sfw", "the sandbox does not offer `tags` before `sfw`\n"),
        ("detect_faces", "the sandbox does not offer the task `detect_faces`\n"),
        ("tags/rotate", "the sandbox does not offer `rotate` as the last task\n"),
    ],
)
def test_what_is_not_offered_is_refused(sandbox: SandboxUnderTest, handle: str, task: str, text: str) -> None:
    got = sandbox.send(f"/{sandbox.security()}/{task}/{handle}")
    assert (got.status, got.text) == (400, text)


def test_a_document_may_not_be_large(sandbox: SandboxUnderTest, folder: Path) -> None:
    Image.new("RGB", (2_001, 10)).save(folder / "wide.png")
    got = sandbox.send(f"/{sandbox.key}/{sandbox.security()}/doc_detection=coords:true/src://photos/wide.png")
    assert (got.status, got.text) == (400, "conv20 provider error: document is too large (idx 0)\n")


def test_a_fault_is_for_the_task_that_it_names(sandbox: SandboxUnderTest, handle: str) -> None:
    sandbox.faults({"fault": "500", "operation": "sfw"})
    assert [sandbox.send(path_of(sandbox, handle, task)).status for task in ("sfw", "tags")] == [500, 200]
