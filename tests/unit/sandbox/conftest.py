"""A sandbox for a module's tests and a web server that it can fetch images from."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from servers.sandbox import SandboxUnderTest, running_sandbox


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A solid red PNG."""
    content = io.BytesIO()
    Image.new("RGB", (120, 80), (220, 20, 20)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, picture: bytes) -> Path:
    """What the alias and the web server offer."""
    root: Path = tmp_path_factory.mktemp("library")
    (root / "dir").mkdir()
    for name in ("red.png", "dir/a b, é.png"):
        (root / name).write_bytes(picture)
    (root / "broken.jpg").write_bytes(b"no image at all")
    (root.parent / "secret.png").write_bytes(picture)
    return root


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[str]:
    """The base URL of a web server over the folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: _Quiet(*args, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def shared_sandbox(folder: Path, web: str) -> Iterator[SandboxUnderTest]:
    with running_sandbox(aliases={"photos": str(folder), "bucket": f"{web}/dir"}) as running:
        yield running


@pytest.fixture
def sandbox(shared_sandbox: SandboxUnderTest) -> SandboxUnderTest:
    """One without faults and with nothing counted."""
    shared_sandbox.faults(seed=0, latency_ms=0)
    shared_sandbox.reset()
    return shared_sandbox


@pytest.fixture
def handle(sandbox: SandboxUnderTest, picture: bytes) -> str:
    """An upload, not counted."""
    uploaded = sandbox.upload(picture)
    sandbox.reset()
    return uploaded
