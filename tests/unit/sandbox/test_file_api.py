"""Uploads, metadata, overwriting, deleting and delivery over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from servers.sandbox import Got, SandboxUnderTest

BOUNDARY = "tagmill"


def store(
    sandbox: SandboxUnderTest, body: bytes, content_type: str, *calls: str, **restrictions: object
) -> Got:
    policy, signature = sandbox.credentials(*(calls or ("store",)), **restrictions)
    query = f"key={sandbox.key}&policy={policy}&signature={signature}"
    return sandbox.send(f"/api/store/S3?{query}", "POST", body, content_type=content_type)


def file_path(sandbox: SandboxUnderTest, handle: str, *calls: str, tail: str = "", query: str = "") -> str:
    policy, signature = sandbox.credentials(*calls)
    return f"/api/file/{handle}{tail}?policy={policy}&signature={signature}{query}"


def multipart(content: bytes) -> bytes:
    head = 'Content-Disposition: form-data; name="fileUpload"; filename="a.png"\r\nContent-Type: image/png'
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def test_an_upload_answers_the_documented_fields_without_a_handle(
    sandbox: SandboxUnderTest, picture: bytes
) -> None:
    got = store(sandbox, picture, "image/png")
    assert got.status == 200
    assert got.json.keys() == {"url", "size", "type", "filename", "key"}
    assert (got.json["size"], got.json["type"]) == (len(picture), "image/png")
    base, _, handle = got.json["url"].rpartition("/")
    assert base == sandbox.url
    assert len(handle) == 20
    assert sandbox.stats()["uploads"] == 1


def test_a_multipart_upload_keeps_name_and_type(sandbox: SandboxUnderTest, picture: bytes) -> None:
    got = store(sandbox, multipart(picture), f"multipart/form-data; boundary={BOUNDARY}")
    assert (got.json["filename"], got.json["type"], got.json["size"]) == ("a.png", "image/png", len(picture))


def test_an_upload_may_name_a_url(sandbox: SandboxUnderTest, web: str, picture: bytes) -> None:
    url = f"{web}/red.png"
    for body, content_type in (
        (f"url={url}".encode(), "application/x-www-form-urlencoded"),
        (json.dumps({"url": url}).encode(), "application/json"),
    ):
        got = store(sandbox, body, content_type)
        assert (got.json["filename"], got.json["size"]) == ("red.png", len(picture))


def test_any_other_json_is_content(sandbox: SandboxUnderTest) -> None:
    body = b'{"url": "https://h/a", "tags": {}}'
    assert store(sandbox, body, "application/json").json["size"] == len(body)


@pytest.mark.parametrize("call", ["store", "pick"])
def test_store_and_pick_allow_an_upload(sandbox: SandboxUnderTest, picture: bytes, call: str) -> None:
    assert store(sandbox, picture, "image/png", call).status == 200


@pytest.mark.parametrize("restrictions", [{"maxSize": 3}, {"minSize": 10_000_000}, {"expiry": 1}])
def test_an_upload_beyond_its_policy_is_refused(
    sandbox: SandboxUnderTest, picture: bytes, restrictions: dict[str, object]
) -> None:
    got = store(sandbox, picture, "image/png", **restrictions)
    assert got.status == 403
    assert got.json["error"] == "Invalid App policy"
    assert got.json.keys() == {"error", "c", "i", "t"}


def test_a_policy_for_tags_allows_no_upload(sandbox: SandboxUnderTest, picture: bytes) -> None:
    assert store(sandbox, picture, "image/png", "convert").status == 403


def test_a_wrong_key_is_refused_with_status_200(sandbox: SandboxUnderTest, picture: bytes) -> None:
    got = sandbox.send("/api/store/S3?key=Another", "POST", picture, content_type="image/png")
    assert (got.status, got.text) == (200, "Invalid Application\n")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"x=1", "application/x-www-form-urlencoded"),
        (b"url=file:///etc/passwd", "application/x-www-form-urlencoded"),
    ],
)
def test_an_upload_of_nothing_usable_is_refused(
    sandbox: SandboxUnderTest, body: bytes, content_type: str
) -> None:
    assert store(sandbox, body, content_type).status == 400


def test_metadata_has_the_default_fields(sandbox: SandboxUnderTest, handle: str, picture: bytes) -> None:
    got = sandbox.send(file_path(sandbox, handle, "stat", tail="/metadata"))
    assert (got.json["mimetype"], got.json["size"], got.json["filename"]) == (
        "image/png",
        len(picture),
        "picture.png",
    )
    assert got.json["uploaded"] > 1e12
    assert "width" not in got.json


def test_metadata_is_computed_on_request(sandbox: SandboxUnderTest, handle: str, picture: bytes) -> None:
    query = "&width=true&height=true&sha256=true"
    got = sandbox.send(file_path(sandbox, handle, "stat", tail="/metadata", query=query))
    assert got.json == {"width": 120, "height": 80, "sha256": hashlib.sha256(picture).hexdigest()}


@pytest.mark.parametrize(
    ("method", "tail"), [("GET", "/metadata"), ("DELETE", ""), ("POST", ""), ("GET", "")]
)
def test_a_policy_without_the_call_is_refused(
    sandbox: SandboxUnderTest, handle: str, method: str, tail: str
) -> None:
    got = sandbox.send(file_path(sandbox, handle, "convert", tail=tail), method)
    assert (got.status, got.json["error"]) == (401, "Invalid Policy")


def test_the_app_secret_opens_everything(sandbox: SandboxUnderTest, handle: str) -> None:
    def metadata(secret: str) -> Got:
        basic = base64.b64encode(f"app:{secret}".encode()).decode()
        return sandbox.send(f"/api/file/{handle}/metadata", authorization=f"Basic {basic}")

    assert metadata(sandbox.secret).status == 200
    assert metadata("wrong").status == 401


def test_a_deleted_file_is_gone(sandbox: SandboxUnderTest, handle: str) -> None:
    path = file_path(sandbox, handle, "remove", query=f"&key={sandbox.key}")
    assert sandbox.send(path, "DELETE").status == 200
    assert sandbox.send(path, "DELETE").status == 404
    assert sandbox.send(f"/{sandbox.security()}/tags/{handle}").status == 404
    assert sandbox.stats()["deletes"] == 1


def test_overwriting_keeps_name_and_type(sandbox: SandboxUnderTest, handle: str) -> None:
    got = sandbox.send(file_path(sandbox, handle, "write"), "PUT", b"new", content_type="text/plain")
    assert got.json == {
        "url": f"{sandbox.url}/{handle}",
        "mimetype": "image/png",
        "isWriteable": True,
        "size": 3,
        "filename": "picture.png",
    }


def test_a_file_is_delivered_as_it_was_uploaded(
    sandbox: SandboxUnderTest, handle: str, picture: bytes
) -> None:
    policy, signature = sandbox.credentials("read")
    for path in (f"/{handle}?policy={policy}&signature={signature}", file_path(sandbox, handle, "read")):
        got = sandbox.send(path)
        assert (got.body, got.headers["content-type"]) == (picture, "image/png")
        assert got.headers["x-file-name"] == "picture.png"
        assert sandbox.send(path, "HEAD").headers["content-length"] == str(len(picture))


def test_delivery_needs_a_policy(sandbox: SandboxUnderTest, handle: str) -> None:
    assert sandbox.send(f"/{handle}").status == 400


@pytest.mark.parametrize("handle", ["..%2f..%2fetc%2fpasswd", "x"])
def test_a_name_that_is_no_handle_leads_nowhere(sandbox: SandboxUnderTest, handle: str) -> None:
    assert sandbox.send(file_path(sandbox, handle, "stat", tail="/metadata")).status in {400, 404}
