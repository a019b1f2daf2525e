"""S3 on loopback: moto's server in a process of its own, and canned answers for what moto cannot do."""

from __future__ import annotations

import functools
import itertools
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "testing-access-key", "testing-secret-key"
START_SECONDS = 60

_SERVER = Path(__file__).with_name("orderly_moto.py")  #: ends when its standard input does
_bucket_numbers = itertools.count(1)
_session_lock = threading.Lock()


@functools.cache
def _session() -> boto3.session.Session:
    """Shared, because most of the cost of a client is reading botocore's models."""
    return boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)


@dataclass(frozen=True)
class S3UnderTest:
    """An endpoint and how to reach it; any credentials will do."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """For a subprocess that finds its endpoint and credentials in the environment."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "TAGMILL_S3_ENDPOINT_URL": self.url,
        }

    def client(self, *, attempts: int = 3, connections: int = 10) -> S3Client:
        config = Config(
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=connections,
            connect_timeout=5,
            read_timeout=30,
        )
        with _session_lock:  # a session is not for several threads, its clients are
            return _session().client("s3", endpoint_url=self.url, config=config)

    def bucket(self) -> str:
        """A new, empty bucket of its own, so that tests may share the server."""
        name = f"bucket-{os.getpid()}-{next(_bucket_numbers)}"
        self.client().create_bucket(Bucket=name)
        return name


@contextmanager
def running_s3() -> Iterator[S3UnderTest]:
    """A private, empty S3 that is gone afterwards; about a second to start."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))
    }
    process = subprocess.Popen(
        [sys.executable, "-P", str(_SERVER)],  # its neighbours have names of libraries
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        yield S3UnderTest(f"http://127.0.0.1:{_port(process)}")
    finally:
        process.kill()
        process.communicate()


def _port(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else b""
    if not line:
        raise RuntimeError("moto's server did not start")
    return int(line)


Answer = Callable[[dict[str, str]], tuple[int, str]]  #: the query of a GET -> status and XML body


@contextmanager
def canned_s3(answer: Answer) -> Iterator[S3UnderTest]:
    """An endpoint that answers every GET as it is told: refusals, outages, listings of any length."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            status, body = answer({name: values[0] for name, values in query.items()})
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield S3UnderTest(f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
