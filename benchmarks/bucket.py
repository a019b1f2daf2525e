"""A made-up bucket of any size over HTTP: listed page by page, and every object is one small picture."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from servers.fleet import PIXEL

NAME = "library"
PAGE = 1000
IN_A_FOLDER = 1000
EVERY = 200  #: so many-th image is another one than before: 0.5 %
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
_ITEM = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;{etag}&quot;</ETag><Size>2000000</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
_PAGE = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>{name}</Name><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>{more}</IsTruncated>"
    "{token}{items}</ListBucketResult>"
)


def key(number: int) -> str:
    return f"{number // IN_A_FOLDER:06d}/{number:09d}.jpg"


def etag(number: int, *, edited: bool) -> str:
    content = -number - 1 if edited and number % EVERY == 0 else number
    return hashlib.md5(content.to_bytes(8, signed=True), usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def running_bucket(images: int) -> Iterator[str]:
    """Yield the address of a bucket in which every so many-th image was edited."""

    class Handler(_Handler):
        count = images

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        process.kill()
        process.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._answer(_page(query, self.count).encode(), "application/xml")
        else:
            self._answer(PIXEL, "image/png")

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _page(query: dict[str, list[str]], count: int) -> str:
    after = query.get("start-after", [""])[0].rpartition("/")[2].removesuffix(".jpg")
    first = int(query["continuation-token"][0]) if "continuation-token" in query else int(after or -1) + 1
    last = min(first + PAGE, count)
    items = (_ITEM.format(key=key(number), etag=etag(number, edited=True)) for number in range(first, last))
    token = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < count else ""
    more = str(last < count).lower()
    return _PAGE.format(name=NAME, count=last - first, more=more, token=token, items="".join(items))
