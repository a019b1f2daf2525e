"""Targets in every form that is in public use."""

from __future__ import annotations

import base64
import json

import pytest

from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.engines.filestack_urls import TaskTarget, UrlForm
from tagmill.worker.errors import ImageRejectedError

SECURITY = "security=p:UE9MSUNZ,s:51a9"
HANDLE = Locator(Transfer.HANDLE, "AbCdEfGhIjKlMnOpQr01")
URL = Locator(Transfer.URL, "https://img.example.com/a b.jpg?w=10&x=é#f")
PLAIN_URL = Locator(Transfer.URL, "https://img.example.com/a,b.jpg")
ALIAS = Locator(Transfer.ALIAS, "src://photos/2026/summer day?.jpg")


@pytest.mark.parametrize(
    ("options", "locator", "target"),
    [
        ({}, HANDLE, f"/{SECURITY}/tags/AbCdEfGhIjKlMnOpQr01"),
        ({}, Locator(Transfer.UPLOAD, HANDLE.value), f"/{SECURITY}/tags/AbCdEfGhIjKlMnOpQr01"),
        ({"version": 2}, HANDLE, f"/{SECURITY}/tags=version:2/AbCdEfGhIjKlMnOpQr01"),
        ({"resize_height": 2000}, HANDLE, f"/{SECURITY}/resize=h:2000/tags/AbCdEfGhIjKlMnOpQr01"),
        ({"security_first": False}, HANDLE, f"/tags/{SECURITY}/AbCdEfGhIjKlMnOpQr01"),
        (
            {"resize_height": 100, "security_first": False},
            HANDLE,
            f"/resize=h:100/tags/{SECURITY}/AbCdEfGhIjKlMnOpQr01",
        ),
        (
            {},
            URL,
            f"/KEY/{SECURITY}/tags/https%3A%2F%2Fimg.example.com%2Fa%20b.jpg%3Fw%3D10%26x%3D%C3%A9%23f",
        ),
        ({"form": UrlForm.RAW}, PLAIN_URL, f"/KEY/{SECURITY}/tags/https://img.example.com/a,b.jpg"),
        ({"form": UrlForm.QUOTED}, PLAIN_URL, f'/KEY/{SECURITY}/tags/"https://img.example.com/a,b.jpg"'),
        ({}, ALIAS, f"/KEY/{SECURITY}/tags/src://photos/2026/summer%20day%3F.jpg"),
        ({}, Locator(Transfer.ALIAS, "src://photos/a\n\x01"), f"/KEY/{SECURITY}/tags/src://photos/a%0A%01"),
        (
            {"form": UrlForm.RAW},
            Locator(Transfer.ALIAS, "src://photos/x/../y"),
            f"/KEY/{SECURITY}/tags/src://photos/x/../y",
        ),
    ],
)
def test_a_target_holds_key_security_tasks_and_source(
    options: dict[str, object], locator: Locator, target: str
) -> None:
    assert TaskTarget("KEY", **options).of(locator, SECURITY) == target  # type: ignore[arg-type]  # a table of options


@pytest.mark.parametrize(
    ("locator", "prefix"),
    [(HANDLE, f"/cache=false/{SECURITY}/tags/"), (ALIAS, f"/KEY/cache=false/{SECURITY}/tags/src://")],
)
def test_a_fresh_image_goes_past_the_cache(locator: Locator, prefix: str) -> None:
    fresh = Locator(locator.transfer, locator.value, fresh=True)
    assert TaskTarget("KEY").of(fresh, SECURITY).startswith(prefix)


def test_base64_encodes_tasks_and_source_together() -> None:
    target = TaskTarget("KEY", version=1, form=UrlForm.B64).of(URL, SECURITY)
    head, _, source = target.partition("/b64://")
    prefix, _, tasks = head.rpartition("/")
    assert prefix == f"/KEY/{SECURITY}/b64"
    assert json.loads(base64.urlsafe_b64decode(tasks)) == [{"name": "tags", "params": {"version": 1}}]
    assert source == "aHR0cHM6Ly9pbWcuZXhhbXBsZS5jb20vYSBiLmpwZz93PTEwJng9w6kjZg=="


@pytest.mark.parametrize("form", [UrlForm.RAW, UrlForm.QUOTED])
@pytest.mark.parametrize("character", ["?", "#", "%41", " ", "é", '"', "\u3000"])
def test_what_a_path_cannot_carry_is_refused_in_the_plain_forms(form: UrlForm, character: str) -> None:
    for locator in (
        Locator(Transfer.URL, f"https://h.example/a{character}b"),
        Locator(Transfer.ALIAS, f"src://photos/a{character}b"),
    ):
        with pytest.raises(ImageRejectedError, match="cannot be written into a path"):
            TaskTarget("KEY", form=form).of(locator, SECURITY)


@pytest.mark.parametrize("form", UrlForm)
@pytest.mark.parametrize(
    "locator",
    [
        Locator(Transfer.URL, "file:///etc/passwd"),
        Locator(Transfer.URL, "ftp://h.example/a"),
        Locator(Transfer.URL, "https://user:password@h.example/a"),
        Locator(Transfer.URL, "https:///a"),
        Locator(Transfer.URL, "https://[::1/a"),
        Locator(Transfer.URL, "//h.example/a"),
        Locator(Transfer.URL, "https://h.example/a\r\nHost: x"),
        Locator(Transfer.ALIAS, "src://photos/\udcff"),
        Locator(Transfer.HANDLE, "short"),
        Locator(Transfer.HANDLE, "AbCdEfGhIjKlMnOpQr01/../x"),
        Locator(Transfer.UPLOAD, "AbCdEfGhIjKlMnOpQr01\n"),
    ],
)
def test_an_impossible_source_is_refused_before_anything_is_sent(form: UrlForm, locator: Locator) -> None:
    with pytest.raises(ImageRejectedError) as refused:
        TaskTarget("KEY", form=form).of(locator, SECURITY)
    assert refused.value.calls == 0
    assert "password" not in str(refused.value).replace("holds a password", "")
