from __future__ import annotations

import io

from fakes.files import MemoryFiles

from tagmill.producer.sources.handles import HandleList, ListFormat
from tagmill.producer.sources.present import Present
from tagmill.worker.store.deleted import deleted_handles, mark_deleted

HERE, GONE = "AbCdEfGhIjKlMnOpQr01", "AbCdEfGhIjKlMnOpQr02"


def listing(files: MemoryFiles) -> Present:
    content = f"{HERE}\n{GONE}\nno handle\n{HERE}\n".encode()
    handles = HandleList(lambda: io.BytesIO(content), "list", ListFormat.TXT)
    return Present(handles, lambda: deleted_handles(files))


def test_handles_of_deleted_files_are_passed_over() -> None:
    files = MemoryFiles()
    before = list(listing(files).list({}))
    mark_deleted(files, [GONE, GONE])
    after = list(listing(files).list({}))
    assert [item.cursor for item in after] == [item.cursor for item in before]
    assert [item.skipped for item in after] == [None, "gone", None, None]
    assert [item.ref for item in after if item.ref] == [item.ref for item in before if item is not before[1]]


def test_it_goes_on_after_a_cursor_and_says_what_it_is() -> None:
    files = MemoryFiles()
    mark_deleted(files, [GONE])
    first, *rest = listing(files).list({})
    assert list(listing(files).list(first.cursor)) == rest
    assert listing(files).describe() == "list"
