from __future__ import annotations

import pytest
from fakes.files import MemoryFiles

from tagmill.worker.capabilities import Capabilities
from tagmill.worker.store.probes import Probes, keep_probes, read_probes

FOUND = Probes("https://s3.eu-central-1.amazonaws.com", "2026-11-22", (Capabilities.of_s3("photos"),))


def test_what_was_found_is_read_back() -> None:
    files = MemoryFiles()
    keep_probes(files, "a-run", FOUND)
    assert read_probes(files, "a-run") == FOUND


def test_a_run_that_asked_nothing_knows_nothing() -> None:
    assert read_probes(MemoryFiles(), "a-run") == Probes()
    assert Probes().of("photos") == Capabilities("photos")
    assert not Probes().prove_annotations("photos")


def test_only_what_was_tried_is_known() -> None:
    assert FOUND.prove_annotations("photos")
    assert FOUND.of("videos") == Capabilities("videos")
    assert not FOUND.prove_annotations("videos")


@pytest.mark.parametrize(
    ("tried", "reached", "same"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "https://s3.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", "https://s3.amazonaws.com", True),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000", True),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9001", False),
        ("https://s3.amazonaws.com", "http://127.0.0.1:9000", False),
        ("https://s3.amazonaws.com", "https://amazonaws.com.example.org", False),
        ("https://s3.amazonaws.com", "https://notamazonaws.com", False),
    ],
)
def test_what_was_found_holds_for_the_server_that_was_tried(tried: str, reached: str, *, same: bool) -> None:
    found = Probes(tried, "2026-11-22", (Capabilities.of_s3("photos"),))
    assert found.through(reached).prove_annotations("photos") is same
