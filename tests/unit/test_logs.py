"""Whoever writes a line, no secret is in it. The log takes over a process, so each test has its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.config.logs import REDACTED, Redactor

CANARY = "canary-8d1f-secret"
SIGNED = "https://cdn.example.com/security=policy:eyJjYWxsIjpbImNvbnZlcnQiXX0=,signature:0123456789abcdef0123/tags/h"
PRESIGNED = (
    "https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261122%2Fus-east-1&"
    "X-Amz-Security-Token=IQoJb3JpZ2luX2VjEXAMPLEEXAMPLE&X-Amz-Signature=0123456789abcdef0123456789abcdef"
)
SHAPES = (
    "eyJjYWxsIjpbImNvbnZlcnQiXX0",
    "0123456789abcdef0123",
    "AKIAIOSFODNN7EXAMPLE",
    "IQoJb3JpZ2luX2VjEXAMPLE",
)
PRELUDE = """
import asyncio, logging, sys, threading, warnings
import structlog
from tagmill.config.logs import configure_logs
level, fmt, canary, signed, presigned = sys.argv[1:]
configure_logs(level, fmt, [canary, ""])
log, foreign = structlog.get_logger(), logging.getLogger("foreign")

def fail():
    raise RuntimeError(f"refused: {canary} {signed} {presigned}")
"""
SCRIPTS = {
    "a structlog event and its values": """
log.info(f"said {canary}", url=signed, link=presigned, nested={"k": [canary]}, raw=canary.encode(), number=7)
""",
    "an error as a value": "log.error('failed', error=RuntimeError(canary))",
    "a traceback": """
try:
    fail()
except RuntimeError:
    log.exception("failed")
    foreign.exception("failed for %s", canary)
""",
    "a record of the standard library": """
foreign.warning("%s %s", canary, signed)
foreign.info(presigned, stack_info=True)
foreign.warning({"key": canary})
""",
    "a warning": "warnings.warn(canary)",
    "a thread's crash": """
thread = threading.Thread(target=fail)
thread.start()
thread.join()
""",
    "a task nobody waited for": """
async def main():
    task = asyncio.ensure_future(forgotten())
    await asyncio.sleep(0)

async def forgotten():
    fail()

asyncio.run(main())
""",
    "a crash": "fail()",
}


def logged(script: str, level: str = "debug", fmt: str = "json") -> str:
    """All that a process prints."""
    command = [sys.executable, "-c", PRELUDE + script, level, fmt, CANARY, SIGNED, PRESIGNED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.defpath})
    assert done.stdout == ""
    return done.stderr


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_no_secret_is_printed_whoever_speaks(fmt: str) -> None:
    for name, script in SCRIPTS.items():
        text = logged(script, fmt=fmt)
        assert REDACTED in text, name
        assert [secret for secret in (CANARY, *SHAPES) if secret in text] == [], name


def test_every_line_is_json_even_a_crash() -> None:
    (event,) = events(logged(SCRIPTS["a crash"]))
    assert (event["event"], event["level"]) == ("crashed", "critical")
    assert "RuntimeError: refused" in event["exception"]


def test_values_stay_what_they_are() -> None:
    (event,) = events(logged("log.info('said', number=7, share=0.5, yes=True, nothing=None, text='plain')"))
    assert {name: event[name] for name in ("number", "share", "yes", "nothing", "text")} == {
        "number": 7,
        "share": 0.5,
        "yes": True,
        "nothing": None,
        "text": "plain",
    }


def test_the_level_holds_for_everybody() -> None:
    script = "log.info('no'); foreign.info('no'); log.warning('yes'); foreign.warning('yes')"
    assert [event["event"] for event in events(logged(script, level="warning"))] == ["yes", "yes"]


def test_libraries_that_print_requests_are_quiet_even_when_debugging() -> None:
    names = [
        "httpx",
        "httpcore.connection",
        "botocore.auth",
        "botocore.endpoint",
        "urllib3",
        "aiohttp.client",
    ]
    script = f"[logging.getLogger(name).info(signed) for name in {names}]; log.info('heard')"
    assert [event["event"] for event in events(logged(script))] == ["heard"]


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_known_secret_is_found_anywhere(before: str, after: str) -> None:
    redact = Redactor([CANARY])
    assert CANARY not in redact(before + CANARY + after)


def test_the_longer_secret_is_taken_out_first() -> None:
    assert Redactor(["abc", "abcdef"])("-abcdef-abc-") == f"-{REDACTED}-{REDACTED}-"


@pytest.mark.parametrize("text", ["policy: ask first", "s=5", "the signature is missing", "p:1,q:2"])
def test_ordinary_text_stays(text: str) -> None:
    assert Redactor([CANARY, ""])(text) == text
