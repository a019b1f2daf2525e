"""`python -m tagmill.sandbox`: the server as a child process of a run or a test."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tagmill.sandbox.config import SandboxConfig, read_settings
from tagmill.sandbox.serve import serve
from tagmill.worker.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings(options.config)
        if options.port is not None:
            settings["port"] = options.port
        serve(SandboxConfig.from_json(settings), ready_file=options.ready_file, parent_pid=options.parent_pid)
    except ConfigError as error:
        print(f"tagmill sandbox: {error}", file=sys.stderr)  # noqa: T201 - the line for the user
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tagmill.sandbox", description=__doc__)
    parser.add_argument("--config", type=Path, help="JSON object of settings; `-` reads standard input")
    parser.add_argument("--port", type=int, help="0 takes any free port")
    parser.add_argument("--ready-file", type=Path, help='gets {"url": …} once connections are accepted')
    parser.add_argument("--parent-pid", type=int, help="end when this is no longer the parent process")
    return parser


if __name__ == "__main__":
    sys.exit(main())
