"""Programs of ours as processes of their own, forked from one that has imported what they all import.

Importing is most of what a short command takes. From its `main` on, a process is as if a shell had started
it: session, folder, environment, standard streams, exit code. Started by a command line are most of
`test_bad_input.py`, and the servers that a run without a fleet brings.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

CLI, SANDBOX = "tagmill.producer.cli.main", "tagmill.sandbox.__main__"

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [CLI, SANDBOX, "tagmill.producer.launch", "tagmill.producer.passes", "tagmill.worker.serve"]
)


class Forked:
    """What tests use of `subprocess.Popen`."""

    stdin = None

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        streams: Sequence[str],
    ) -> None:
        """`streams`: the files that its standard input, output and errors are."""
        given = (module, [*arguments], str(folder), dict(environment), [*streams])
        self._process = _context.Process(target=_run, args=given)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("forked", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(
    module: str, arguments: list[str], folder: str, environment: dict[str, str], streams: list[str]
) -> None:
    os.setsid()  # Ctrl-C for pytest is for pytest alone
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(os.open(stream, os.O_RDWR | os.O_CREAT if number else os.O_RDONLY), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it lasts as long as the process
    sys.stdout, sys.stderr = _written(1), _written(2)
    program = importlib.import_module(module)
    sys.argv = [str(program.__file__), *arguments]
    sys.exit(program.main())


def _written(number: int) -> TextIO:
    return open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
