"""The real sandbox as a subprocess, so that it outlives the clients that tests kill."""

from __future__ import annotations

import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from servers import forked
from servers.forked import Forked

from tagmill.sandbox.policies import encode, sign

KEY = "AtestKey00000000000000"
SECRET = "test-app-secret-not-real"
FAR_FUTURE = 4_102_444_800  # 2100
START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Got:
    status: int
    headers: Mapping[str, str]  #: names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True, slots=True)
class SandboxUnderTest:
    url: str
    key: str
    secret: str
    process: Forked

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"

    @property
    def environment(self) -> dict[str, str]:
        """What points a Tagmill process at this server."""
        return {
            "TAGMILL_FILESTACK_API_KEY": self.key,
            "TAGMILL_FILESTACK_APP_SECRET": self.secret,
            "TAGMILL_FILESTACK_CDN_URL": self.url,
            "TAGMILL_FILESTACK_API_URL": self.api_url,
        }

    def stats(self, *, images: bool = False) -> dict[str, Any]:
        stats: dict[str, Any] = self._call("GET", f"/_sandbox/stats{'?images=1' if images else ''}")
        return stats

    def arrivals(self) -> list[float]:
        """Monotonic seconds of every tags request."""
        times: list[float] = self._call("GET", "/_sandbox/arrivals")["times"]
        return times

    def requests(self) -> list[dict[str, Any]]:
        """Every decided tags request: n, monotonic, wall, image, status, billed."""
        requests: list[dict[str, Any]] = self._call("GET", "/_sandbox/arrivals")["requests"]
        return requests

    def faults(self, *rules: dict[str, Any], **settings: Any) -> dict[str, Any]:
        """Replace the fault rules; `seed` and `latency_ms` too when given."""
        in_force: dict[str, Any] = self._call("POST", "/_sandbox/faults", {"rules": rules, **settings})
        return in_force

    def webhooks(self, *receivers: dict[str, Any]) -> None:
        """Replace those who get webhooks."""
        self._call("POST", "/_sandbox/webhooks", {"webhooks": receivers})

    def deliveries(self) -> list[dict[str, Any]]:
        """Every webhook, and what became of it."""
        found: list[dict[str, Any]] = self._call("GET", "/_sandbox/webhooks")["deliveries"]
        return found

    def reset(self) -> None:
        self._call("POST", "/_sandbox/reset")

    def credentials(self, *calls: str, **restrictions: Any) -> tuple[str, str]:
        """A policy and its signature."""
        policy = encode({"call": calls, "expiry": FAR_FUTURE, **restrictions})
        return policy, sign(self.secret, policy)

    def security(self, *calls: str, **restrictions: Any) -> str:
        """The path segment of a signed policy."""
        policy, signature = self.credentials(*(calls or ("convert", "read")), **restrictions)
        return f"security=p:{policy},s:{signature}"

    def upload(self, content: bytes, mimetype: str = "image/png", filename: str = "picture.png") -> str:
        """The handle of a new file."""
        policy, signature = self.credentials("store")
        query = f"key={self.key}&policy={policy}&signature={signature}&filename={filename}"
        stored = self.send(f"/api/store/S3?{query}", "POST", content, content_type=mimetype)
        return str(stored.json["url"]).rpartition("/")[2]

    def metadata(self, handle: str) -> dict[str, Any]:
        policy, signature = self.credentials("stat")
        got = self.send(f"/api/file/{handle}/metadata?policy={policy}&signature={signature}")
        metadata: dict[str, Any] = got.json
        return metadata

    def send(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Got:
        """A request whose path leaves exactly as it is given."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=START_SECONDS)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Got(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        """An answer of the control interface."""
        got = self.send(path, method, json.dumps(body).encode())
        if got.status != HTTPStatus.OK:
            raise RuntimeError(f"the sandbox refused {path}: {got.body!r}")
        return got.json


@contextmanager
def running_sandbox(**config: Any) -> Iterator[SandboxUnderTest]:
    """Start one with the fields of `SandboxConfig` in their JSON form; it is gone afterwards."""
    settings = {"api_key": KEY, "app_secret": SECRET, "port": 0, **config}
    with tempfile.TemporaryDirectory() as folder:
        said, ready, log = (Path(folder, name) for name in ("settings.json", "ready.json", "log"))
        said.write_text(json.dumps(settings))
        arguments = ["--config", "-", "--ready-file", str(ready)]
        streams = [str(stream) for stream in (said, log, log)]
        process = Forked(forked.SANDBOX, arguments, Path(folder), {"TMPDIR": folder}, streams)
        try:
            url = announced(ready, process)
            yield SandboxUnderTest(url, settings["api_key"], settings["app_secret"], process)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def announced(ready: Path, process: subprocess.Popen[bytes] | Forked) -> str:
    """The URL of a server that was just started."""
    deadline = time.monotonic() + START_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the sandbox did not start (exit code {process.poll()})")
        time.sleep(0.02)  # a process gives no other sign
    url: str = json.loads(ready.read_text())["url"]
    return url
