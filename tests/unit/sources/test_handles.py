from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable
from typing import BinaryIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagmill.producer.sources.base import Listed
from tagmill.producer.sources.handles import MAX_ROW_LINES, HandleList, ListFormat, parse_handle
from tagmill.producer.sources.lines import MAX_LINE_BYTES
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import BadLine, Handle

TXT, CSV, JSONL = HANDLE_LISTS = (ListFormat.TXT, ListFormat.CSV, ListFormat.JSONL)
H = [f"Handle-_{number:012d}" for number in range(20)]


class Pipe(io.BytesIO):
    """A stream that cannot seek, such as the body of an S3 object."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise io.UnsupportedOperation(f"seek {offset} {whence}")


def source(
    content: bytes,
    list_format: ListFormat,
    field: str = "handle",
    stream: Callable[[bytes], BinaryIO] = io.BytesIO,
) -> HandleList:
    return HandleList(lambda: stream(content), "list", list_format, field)


def read(content: str | bytes, list_format: ListFormat, field: str = "handle") -> list[str | tuple[int, str]]:
    """Handles, and line and reason of each bad line."""
    raw = content.encode() if isinstance(content, str) else content
    return [shown(item) for item in source(raw, list_format, field).list({})]


def shown(item: Listed) -> str | tuple[int, str]:
    assert item.ref
    found = item.ref.source
    assert isinstance(found, Handle | BadLine)
    return found.handle if isinstance(found, Handle) else (found.line, found.reason)


# --- text -------------------------------------------------------------------------------------------------


def test_a_text_list_holds_a_handle_a_line() -> None:
    assert read(f"{H[0]}\n  {H[1]}\t\r\n{H[2]}", TXT) == H[:3]


def test_blank_lines_comments_and_a_byte_order_mark_say_nothing() -> None:
    assert read(f"\ufeff{H[0]}\n\n   \n# {H[1]}\n{H[2]}\n", TXT) == [H[0], H[2]]
    assert read("\ufeff# only a comment\n", TXT) == []
    assert read("", TXT) == []


def test_an_image_knows_the_line_that_named_it() -> None:
    [_, item] = source(f"{H[0]}\n\n{H[1]}\n".encode(), TXT).list({})
    assert item.ref
    assert item.ref.source == Handle(H[1], line=3)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"short", "not a Filestack handle"),
        (b"x" * 65, "not a Filestack handle"),
        (b"two handles", "not a Filestack handle"),
        (b"nul\0nul\0nul\0", "not a Filestack handle"),
        (b"handle\xff\xfehandle", "not UTF-8"),
        (b"x" * MAX_LINE_BYTES, "longer than 1048576 bytes"),
        (b"x" * 3 * MAX_LINE_BYTES, "longer than 1048576 bytes"),
        (b"https://other.example.com/" + H[0].encode(), "not a Filestack handle"),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_bad_line_is_planned_with_its_number_and_stops_nothing(
    line: bytes, reason: str, end: bytes
) -> None:
    content = end.join([H[0].encode(), line, H[1].encode()])
    assert read(content, TXT) == [H[0], (2, reason), H[1]]


def test_a_bad_last_line_without_an_end_is_planned_too() -> None:
    assert read(b"x" * (MAX_LINE_BYTES + 1), TXT) == [(1, "longer than 1048576 bytes")]


@pytest.mark.parametrize(
    "text",
    [
        H[0],
        f"filestack:{H[0]}",
        f"https://cdn.filestackcontent.com/{H[0]}",
        f"http://cdn.filestackcontent.com/{H[0]}#x",
        f"https://cdn.filestackcontent.com/{H[0]}?policy=eyJ9&signature=abc",
    ],
)
def test_handles_ids_of_rows_and_delivery_urls_are_understood(text: str) -> None:
    assert parse_handle(text) == H[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{H[0]}\n",
        f"filestack:https://cdn.filestackcontent.com/{H[0]}",
        f"https://cdn.filestackcontent.com/resize=width:100/{H[0]}",
        f"https://cdn.filestackcontent.com/Akey1234567890/tags/{H[0]}",
        f"https://cdn.filestackcontent.com.example.com/{H[0]}",
        "händle-händle",
    ],
)
def test_other_texts_are_no_handles(text: str) -> None:
    with pytest.raises(ValueError, match="not a Filestack handle"):
        parse_handle(text)


def test_a_reason_quotes_nothing_of_the_line() -> None:
    signed = "https://cdn.filestackcontent.com/tags/x?policy=PLANTED&signature=PLANTED"
    lists = [(TXT, signed), (CSV, f"handle\n{signed}"), (JSONL, json.dumps({"handle": signed}))]
    assert all("PLANTED" not in str(read(content, list_format)) for list_format, content in lists)


@pytest.mark.parametrize("list_format", HANDLE_LISTS)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_utf_16_list_is_refused_as_a_whole(list_format: ListFormat, encoding: str) -> None:
    with pytest.raises(ConfigError, match="save it as UTF-8"):
        read(f"\ufeffhandle\n{H[0]}\n".encode(encoding), list_format)


# --- CSV --------------------------------------------------------------------------------------------------


def test_a_csv_list_is_read_by_its_column() -> None:
    assert read(f"id,handle,note\r\n1,{H[0]},\r\n2, {H[1]} ,x\r\n", CSV) == H[:2]
    assert read(f"\ufeffFile Handle\n{H[0]}\n", CSV, "File Handle") == H[:1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_tells_the_delimiter(delimiter: str) -> None:
    rows = [["id", "handle"], ["1", H[0]], ["2", H[1]]]
    assert read("\n".join(delimiter.join(row) for row in rows), CSV) == H[:2]


def test_quoted_cells_may_hold_delimiters_quotes_and_line_breaks() -> None:
    text = f'note,handle\n"a, ""b""",{H[0]}\n"first\r\nsecond\n\nfourth",{H[1]}\nx,{H[2]}\n'
    items = list(source(text.encode(), CSV).list({}))
    assert [shown(item) for item in items] == H[:3]
    assert [item.cursor["line"] for item in items] == [2, 6, 7]
    assert items[1].ref
    assert items[1].ref.source == Handle(H[1], line=3)


def test_a_quote_that_is_never_closed_costs_one_line_and_no_image() -> None:
    text = f'note,handle\n"open,{H[0]}\n' + "".join(f"x,{handle}\n" for handle in H[1:])
    assert read(text, CSV) == [(2, "not a CSV row"), *H[1:]]
    many = "".join(f"x,{H[0]}\n" for _ in range(3 * MAX_ROW_LINES))
    assert read(f'note,handle\n"open\n{many}', CSV) == [(2, "not a CSV row"), *[H[0]] * 3 * MAX_ROW_LINES]


def test_bad_rows_are_planned_with_the_number_of_their_first_line() -> None:
    rows = [
        f"1,{H[0]}",
        "2",
        "3,",
        "",
        f'"4"x,{H[0]}',
        '"5\nfive",short',
        f'"6"\n{H[1]},{H[2]}'.replace("\n", "\n7,"),
    ]
    assert read("\n".join(["id,handle", *rows]), CSV) == [
        H[0],
        (3, "no column 'handle'"),
        (4, "not a Filestack handle"),
        (6, "not a CSV row"),
        (7, "not a Filestack handle"),
        (9, "no column 'handle'"),
        H[1],
    ]


def test_a_line_that_is_not_utf_8_inside_a_quoted_cell_is_a_bad_row_of_its_own() -> None:
    content = b'note,handle\n"a\n\xff",' + H[0].encode() + b"\nx," + H[1].encode()
    assert read(content, CSV) == [(2, "not a CSV row"), (3, "not UTF-8"), H[1]]


def test_a_missing_column_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="no column 'handle'; its columns are 'id', 'file'"):
        read("id,file\n1,2\n", CSV)


@pytest.mark.parametrize("content", [b"", b"\xff\n", b'"open\n', b"x" * (MAX_LINE_BYTES + 1)])
def test_a_csv_list_without_a_header_is_refused(content: bytes) -> None:
    with pytest.raises(ConfigError, match="first line"):
        source(content, CSV).check()


# --- JSON lines -------------------------------------------------------------------------------------------


def test_a_jsonl_list_is_read_by_its_field() -> None:
    lines = [{"handle": H[0]}, {"handle": f" {H[1]} ", "tags": {"é": [1]}}]
    assert read("\n".join(map(json.dumps, lines)), JSONL) == H[:2]
    assert read(json.dumps({"id": f"filestack:{H[0]}"}), JSONL, "id") == H[:1]


def test_bad_json_lines_are_planned() -> None:
    lines = [
        "{",
        "",
        "[]",
        "7",
        '{"other": 1}',
        '{"handle": null}',
        '{"handle": 7}',
        "NaN",
        '{"handle": ""}',
        "[" * 5000,
    ]
    assert read("\n".join(lines), JSONL) == [
        (1, "not JSON"),
        (3, "no field 'handle'"),
        (4, "no field 'handle'"),
        (5, "no field 'handle'"),
        (6, "field 'handle' is no text"),
        (7, "field 'handle' is no text"),
        (8, "not JSON"),
        (9, "not a Filestack handle"),
        (10, "not JSON"),
    ]


# --- going on ---------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b"\r",
        b",",
        b'"',
        b'""',
        b"#",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"{",
        b'{"handle": "',
        b'"}',
    ]
    + [handle.encode() for handle in H[:3]]
)
CONTENT = st.lists(PIECES, max_size=40).map(b"".join)


@pytest.mark.parametrize("stream", [io.BytesIO, Pipe])
@pytest.mark.parametrize("list_format", HANDLE_LISTS)
@given(content=CONTENT)
def test_any_bytes_are_read_and_can_be_continued_after_every_item(
    content: bytes, list_format: ListFormat, stream: Callable[[bytes], BinaryIO]
) -> None:
    header = b"handle,x\n" if list_format is CSV else b""
    opened = source(header + content, list_format, stream=stream)
    items = list(opened.list({}))
    for position, item in enumerate(items):
        assert list(opened.list(item.cursor)) == items[position + 1 :]


@given(content=CONTENT)
@example(content=codecs.BOM_UTF8 + f"{H[0]}\n{H[0]}".encode())
def test_no_handle_on_a_line_of_its_own_is_lost(content: bytes) -> None:
    lines = [line.strip() for line in content.removeprefix(codecs.BOM_UTF8).split(b"\n")]
    wanted = [line.decode() for line in lines if line in {handle.encode() for handle in H}]
    listed = [shown(item) for item in source(content, TXT).list({})]
    assert wanted == [handle for handle in listed if handle in wanted]


def test_the_stream_is_closed_whether_or_not_the_list_was_read_to_its_end() -> None:
    streams: list[BinaryIO] = []

    def opened() -> BinaryIO:
        streams.append(io.BytesIO("\n".join(H).encode()))
        return streams[-1]

    handles = HandleList(opened, "list", TXT)
    list(handles.list({}))
    begun = handles.list({})
    next(begun)
    begun.close()  # type: ignore[attr-defined]  # a generator
    assert all(stream.closed for stream in streams)
