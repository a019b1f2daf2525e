"""Starting, announcing, stopping."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers.sandbox import START_SECONDS, announced, running_sandbox

from tagmill.sandbox.__main__ import main
from tagmill.sandbox.config import SandboxConfig
from tagmill.sandbox.faults import Fault
from tagmill.sandbox.serve import serve
from tagmill.worker.errors import ConfigError
from tagmill.worker.rate import Rate


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_settings_are_read_as_people_write_them() -> None:
    config = SandboxConfig.from_json(
        {"rate_limit": "20/s", "faults": [{"fault": "500"}], "latency_seconds": 0.1}
    )
    assert config.rate_limit == Rate.parse("20/s")
    assert config.faults[0].fault is Fault.SERVER_ERROR


@pytest.mark.parametrize(
    "settings",
    [
        {"prot": 1},
        {"rate_limit": "often"},
        {"faults": [{"fault": "x"}]},
        {"throttle_status": 418},
        {"latency_seconds": -1},
        {"port": 70_000},
        {"port": "8091"},
    ],
)
def test_wrong_settings_are_refused_with_a_line(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"."):
        SandboxConfig.from_json(settings)


def test_the_secret_is_not_shown() -> None:
    assert "hidden" not in repr(SandboxConfig(app_secret="hidden"))


def test_a_taken_port_is_a_configuration_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            serve(SandboxConfig(port=port))


def test_the_command_answers_a_wrong_configuration_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"prot": 1}')
    assert main(["--config", str(tmp_path / "config.json")]) == 2
    assert capsys.readouterr().err == "tagmill sandbox: the sandbox has no setting 'prot'\n"
    assert main(["--config", str(tmp_path / "missing.json")]) == 2
    (tmp_path / "config.json").write_text("[1]")
    assert main(["--config", str(tmp_path / "config.json")]) == 2
    assert capsys.readouterr().err.endswith("config.json: not a JSON object\n")


def test_uploads_survive_a_restart_in_a_folder_that_was_given(tmp_path: Path, picture: bytes) -> None:
    with running_sandbox(data_folder=str(tmp_path)) as sandbox:
        handle = sandbox.upload(picture)
    with running_sandbox(data_folder=str(tmp_path)) as sandbox:
        assert sandbox.send(f"/{sandbox.security()}/tags/{handle}").status == 200


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_removes_its_temporary_folder(tmp_path: Path, how: signal.Signals) -> None:
    ready = tmp_path / "ready.json"
    (tmp_path / "config.json").write_text('{"port": 0}')
    arguments = ["--config", str(tmp_path / "config.json"), "--ready-file", str(ready)]
    command = [sys.executable, "-m", "tagmill.sandbox", *arguments]
    process = subprocess.Popen(command, env={"TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE)
    try:
        assert announced(ready, process).startswith("http://127.0.0.1:")
        assert list(tmp_path.glob("tagmill-sandbox-*"))
        process.send_signal(how)
        assert process.communicate(timeout=START_SECONDS)[1] == b""
    finally:
        process.kill()
        process.communicate()
    assert not list(tmp_path.glob("tagmill-sandbox-*"))
    assert process.returncode == (0 if how is signal.SIGINT else -how)


def test_a_data_folder_that_cannot_be_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="data folder"):
        serve(SandboxConfig(port=0, data_folder=str(tmp_path / "file")))


def test_it_stops_although_a_request_hangs(picture: bytes) -> None:
    with running_sandbox(faults=[{"fault": "hang", "seconds": 600}]) as sandbox:
        path = f"/{sandbox.security()}/tags/{sandbox.upload(picture)}"
        with ThreadPoolExecutor(1) as client:
            hanging = client.submit(sandbox.send, path)
            while sandbox.stats()["calls"] == 0:
                pass
            sandbox.process.terminate()
            sandbox.process.wait(10)
            assert isinstance(hanging.exception(timeout=10), ConnectionResetError)


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed and cannot stop it."""
    ready = tmp_path / "ready.json"
    (tmp_path / "config.json").write_text('{"port": 0}')
    script = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'tagmill.sandbox', '--config', sys.argv[1],"
        " '--ready-file', sys.argv[2], '--parent-pid', str(os.getpid())])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "config.json"), str(ready)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    try:
        announced(ready, parent)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + START_SECONDS
        while not gone(pid) and time.monotonic() < deadline:
            time.sleep(0.02)  # a process gives no other sign
        assert gone(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)
