"""The URL grammar on its own."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmill.sandbox.urls import AddressError, AliasSource, HandleSource, UrlSource, parse_address

HANDLE = "AbCdEfGhIjKlMnOpQr01"
KEY = "AtestKey00000000000000"
URL = "https://img.example.com/a b.jpg?w=10&x=é#f"
FETCHED = "https://img.example.com/a%20b.jpg?w=10&x=%C3%A9"
SECURITY = "security=p:eyJ9,s:0a2f"


def b64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "path",
    [
        f"/{SECURITY}/tags/{HANDLE}",
        f"/tags/{SECURITY}/{HANDLE}",
        f"/tags/security=policy:eyJ9,signature:0a2f/{HANDLE}",
        f"/security=signature:0a2f,policy:eyJ9/tags/{HANDLE}",
        f"/{KEY}/{SECURITY}/tags/{HANDLE}",
        f"/{KEY}/{SECURITY}/resize=h:2000/tags/{HANDLE}",
        f"/resize=width:100/tags/{SECURITY}/{HANDLE}",
        f'/security=p:"eyJ9",s:"0a2f"/tags/{HANDLE}',
        f"/security%3Dp:eyJ9%2Cs:0a2f/tags/{HANDLE}",
    ],
)
def test_security_is_found_in_every_place_and_spelling(path: str) -> None:
    address = parse_address(path.encode())
    assert (address.policy, address.signature) == ("eyJ9", "0a2f")
    assert address.source == HandleSource(HANDLE)
    assert address.tasks[-1].name == "tags"


def test_padding_survives_in_the_path() -> None:
    assert parse_address(f"/security=p:eyJ9=,s:0a2f/tags/{HANDLE}".encode()).policy == "eyJ9="


def test_only_the_first_segment_can_be_a_key() -> None:
    assert parse_address(f"/{KEY}/tags/{HANDLE}".encode()).api_key == KEY
    assert parse_address(f"/tags/{HANDLE}".encode()).api_key is None


@pytest.mark.parametrize(
    ("task", "params"),
    [
        ("tags=version:1", {"version": "1"}),
        ("tags=v:2", {"v": "2"}),
        ("tags", {}),
        ("cache=false", {"false": ""}),
        ("cache=expiry:max", {"expiry": "max"}),
    ],
)
def test_parameters_are_read(task: str, params: dict[str, str]) -> None:
    address = parse_address(f"/{task}/{HANDLE}".encode())
    assert address.tasks[0].params == params


@pytest.mark.parametrize(
    "tail",
    [
        "https%3A%2F%2Fimg.example.com%2Fa%20b.jpg%3Fw%3D10%26x%3D%C3%A9%23f",
        "b64://aHR0cHM6Ly9pbWcuZXhhbXBsZS5jb20vYSBiLmpwZz93PTEwJng9w6kjZg==",
        "b64://aHR0cHM6Ly9pbWcuZXhhbXBsZS5jb20vYSBiLmpwZz93PTEwJng9w6kjZg%3D%3D",
        "%22https%3A%2F%2Fimg.example.com%2Fa%20b.jpg%3Fw%3D10%26x%3D%C3%A9%23f%22",
    ],
)
def test_encoded_forms_of_an_external_url_mean_the_same(tail: str) -> None:
    assert parse_address(f"/{KEY}/{SECURITY}/tags/{tail}".encode()).source == UrlSource(FETCHED)


@pytest.mark.parametrize(
    "tail", ["https://img.example.com/d/a%20b.jpg", '"https://img.example.com/d/a%20b.jpg"']
)
def test_a_raw_url_is_taken_as_it_is(tail: str) -> None:
    assert parse_address(f"/{KEY}/tags/{tail}".encode()).source == UrlSource(
        "https://img.example.com/d/a%20b.jpg"
    )


@pytest.mark.parametrize(
    "tail",
    [
        "src://photos/dir/a%20b.jpg",
        '"src://photos/dir/a%20b.jpg"',
        "src%3A%2F%2Fphotos%2Fdir%2Fa%20b.jpg",
        f"b64://{b64('src://photos/dir/a b.jpg')}",
    ],
)
def test_forms_of_a_storage_alias_mean_the_same(tail: str) -> None:
    assert parse_address(f"/{KEY}/tags/{tail}".encode()).source == AliasSource("photos", "dir/a b.jpg")


def test_an_encoded_alias_is_decoded_once() -> None:
    address = parse_address(b"/K/tags/src%3A%2F%2Fphotos%2F100%2525.jpg")
    assert address.source == AliasSource("photos", "100%25.jpg")


@pytest.mark.parametrize("names", [("name", "params"), ("Name", "Params")])
def test_tasks_may_come_as_encoded_json(names: tuple[str, str]) -> None:
    name, params = names
    tasks = b64(json.dumps([{name: "resize", params: {"height": 10}}, {name: "tags", params: None}]))
    address = parse_address(f"/{KEY}/{SECURITY}/b64/{tasks}/b64://{b64('https://h/x')}".encode())
    assert [task.name for task in address.tasks] == ["resize", "tags"]
    assert address.tasks[0].params == {"height": "10"}
    assert address.policy == "eyJ9"
    assert address.source == UrlSource("https://h/x")


def test_security_inside_encoded_tasks_is_no_part_of_the_cache_key() -> None:
    def path(policy: str) -> bytes:
        security = {"name": "security", "params": {"policy": policy, "signature": "s"}}
        return f"/{KEY}/b64/{b64(json.dumps([security, {'name': 'tags'}]))}/{HANDLE}".encode()

    assert parse_address(path("one")).cache_key == parse_address(path("two")).cache_key
    assert parse_address(path("one")).policy == "one"


def test_the_cache_key_leaves_out_security_only() -> None:
    def key(path: str) -> str:
        return parse_address(path.encode()).cache_key

    assert key(f"/{SECURITY}/tags/{HANDLE}") == key(f"/tags/security=p:other,s:other/{HANDLE}")
    assert key(f"/tags/{HANDLE}") != key(f"/{KEY}/tags/{HANDLE}")
    assert key(f"/tags/{HANDLE}") != key(f"/tags=version:1/{HANDLE}")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/tags/",
        "/tags/short",
        f"/tags/{HANDLE}+jpg",
        "//tags/x",
        f"/{SECURITY}/{SECURITY}/tags/{HANDLE}",
        f"/security=p:a,s:b,x:c/tags/{HANDLE}",
        "/K/tags/https:%2F%2Fimg.example.com%2Fa.jpg",
        "/K/tags/ftp://img.example.com/a.jpg",
        "/K/tags/file%3A%2F%2F%2Fetc%2Fpasswd",
        "/K/tags/https://user:secret@img.example.com/a.jpg",
        "/K/tags/https%3A%2F%2F",
        "/K/tags/https://[broken/a.jpg",
        "/K/tags/src://alias",
        "/K/tags/b64://aHR0cHM6Ly9oL3g",
        "/K/tags/b64://a/b+",
        f"/K/b64/nonsense/{HANDLE}",
        f"/K/b64/{b64('{}')}x/{HANDLE}",
        f"/K/b64/{b64('[1]')}/{HANDLE}",
    ],
)
def test_everything_else_is_refused(path: str) -> None:
    with pytest.raises(AddressError):
        parse_address(path.encode())


@settings(deadline=None)  # other work may hold up this machine
@given(st.binary())
def test_no_path_breaks_the_parser(path: bytes) -> None:
    with suppress(AddressError):
        parse_address(b"/" + path)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_key_survives_percent_encoding(key: str) -> None:
    encoded = quote(f"src://photos/{key}", safe="-._~")
    assert parse_address(f"/K/tags/{encoded}".encode()).source == AliasSource("photos", key)


def test_a_presigned_url_is_named_without_its_signature() -> None:
    signed = UrlSource("https://b.s3.amazonaws.com/k.jpg?X-Amz-Date=20261122T000000Z&X-Amz-Signature=abc")
    assert signed.name == "https://b.s3.amazonaws.com/k.jpg"


def test_other_queries_tell_images_apart_without_showing() -> None:
    one, two = UrlSource("https://h/i?id=1&token=t"), UrlSource("https://h/i?id=2&token=t")
    assert one.name != two.name
    assert "token" not in one.name


def test_a_key_that_is_no_text_has_a_name_that_is() -> None:
    source = parse_address(b"/K/tags/src://photos/a%FF.jpg").source
    assert source == AliasSource("photos", "a\udcff.jpg")
    assert source.name == "src://photos/a\\xff.jpg"
