"""docs/sandbox.md leaves nothing out."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from tagmill.sandbox.config import SandboxConfig
from tagmill.sandbox.fault_replies import BOMB_BYTES, instead
from tagmill.sandbox.faults import Fault, FaultRule

PAGE = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text(encoding="utf-8")
NAMES = [*(item.name for item in (*fields(SandboxConfig), *fields(FaultRule))), *Fault]


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_every_setting_and_fault_is_documented(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_defaults_shown_are_the_defaults() -> None:
    config = SandboxConfig()
    assert f"TAGMILL_FILESTACK_API_KEY={config.api_key}\n" in PAGE
    assert f"TAGMILL_FILESTACK_APP_SECRET={config.app_secret}\n" in PAGE
    assert f"http://{config.host}:{config.port}\n" in PAGE


def test_the_bomb_is_as_big_as_the_page_says() -> None:
    assert (round(len(instead(Fault.GZIP_BOMB).body) / 1_000), BOMB_BYTES >> 20) == (65, 64)
