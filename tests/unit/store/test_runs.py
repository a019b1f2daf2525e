from __future__ import annotations

import io
from dataclasses import replace

import orjson
import pytest
from fakes.files import MemoryFiles
from fakes.runs import RUN, a_spec

from tagmill.worker.errors import ConfigError, NotFoundError
from tagmill.worker.store.runs import FORMAT, Control, Runs, Verb, effective

SPEC_FILE = f"runs/{RUN}/run.json"


@pytest.fixture
def files() -> MemoryFiles:
    return MemoryFiles()


def test_a_spec_comes_back_as_it_was(files: MemoryFiles) -> None:
    spec = a_spec(rate="20/s", keep_uploads=True, policy={"min_confidence": 50}, chunk_size=7, embedded=False)
    Runs(files).create(spec)
    assert Runs(files).read(RUN) == spec


def test_a_run_of_a_newer_format_is_refused(files: MemoryFiles) -> None:
    Runs(files).create(a_spec())
    newer = orjson.loads(files.contents[SPEC_FILE]) | {"format": FORMAT + 1, "unheard_of": True}
    files.contents[SPEC_FILE] = orjson.dumps(newer)
    with pytest.raises(
        ConfigError, match=rf"run {RUN} was written by a newer Tagmill \(format {FORMAT + 1}\)"
    ):
        Runs(files).read(RUN)


def test_an_unknown_run_is_not_found(files: MemoryFiles) -> None:
    with pytest.raises(NotFoundError, match="no run another-run in memory"):
        Runs(files).read("another-run")


def test_an_unknown_run_is_answered_with_the_last_runs_and_a_count(files: MemoryFiles) -> None:
    for number in range(1, 8):
        Runs(files).create(a_spec(run_id=f"run-{number}"))
    with pytest.raises(NotFoundError, match="run-3, run-4, run-5, run-6, run-7 and 2 more"):
        Runs(files).read("another-run")


def test_a_run_without_control_goes_on(files: MemoryFiles) -> None:
    assert Runs(files).control(RUN) == Control(n=0, verb=Verb.RESUME)
    assert Runs(files).control(RUN).running


def test_the_newest_control_counts(files: MemoryFiles) -> None:
    runs = Runs(files)
    runs.set_control(
        RUN, Control(verb=Verb.PAUSE, reason="credentials", message="no key", by="worker", at="now")
    )
    assert runs.control(RUN) == Control(1, Verb.PAUSE, "credentials", "no key", "worker", "now")
    assert not runs.control(RUN).running
    for _ in range(11):
        runs.set_control(RUN, Control(verb=Verb.RESUME))
    assert runs.control(RUN) == Control(12)


def test_only_a_run_that_goes_on_is_paused(files: MemoryFiles) -> None:
    runs = Runs(files)
    seen = runs.control(RUN)
    first = runs.pause(RUN, Control(verb=Verb.PAUSE, reason="credentials"), seen)
    second = Control(verb=Verb.PAUSE, reason="budget")
    assert runs.pause(RUN, second, seen) == first
    assert runs.pause(RUN, second, first) == first
    assert runs.control(RUN).reason == "credentials"


@pytest.mark.parametrize(
    ("newest", "heeded"), [(Verb.RESUME, True), (Verb.PAUSE, True), (Verb.CANCEL, False)]
)
def test_that_a_write_back_did_harm_is_said_also_of_a_run_that_pauses(
    files: MemoryFiles, newest: Verb, *, heeded: bool
) -> None:
    runs, harm = Runs(files), Control(verb=Verb.PAUSE, reason="write_back_safety")
    runs.set_control(RUN, Control(verb=newest, reason="interrupted"))
    runs.pause(RUN, harm)
    runs.pause(RUN, harm)
    assert runs.control(RUN).reason == ("write_back_safety" if heeded else "interrupted")
    assert runs.control(RUN).n == 1 + heeded


def test_a_run_is_not_paused_for_what_was_found_before_it_was_changed(files: MemoryFiles) -> None:
    runs = Runs(files)
    seen = runs.control(RUN)
    raised = runs.set_control(RUN, Control(max_calls=1000))
    assert runs.pause(RUN, Control(verb=Verb.PAUSE, reason="budget"), seen) == raised
    paused = runs.pause(RUN, Control(verb=Verb.PAUSE, reason="budget"), raised)
    assert paused == Control(2, Verb.PAUSE, "budget", max_calls=1000)


def test_a_control_keeps_what_it_does_not_set(files: MemoryFiles) -> None:
    runs = Runs(files)
    runs.set_control(RUN, Control(max_duration=60.0, rate="5/s"))
    runs.set_control(RUN, Control(verb=Verb.PAUSE, reason="time_limit"))
    last = runs.set_control(RUN, Control(max_duration=90.0))
    assert last == runs.control(RUN) == Control(3, max_duration=90.0, rate="5/s")


def test_what_was_set_last_is_in_effect(files: MemoryFiles) -> None:
    spec = a_spec(max_duration=60.0, rate="5/s")
    assert effective(spec, Control()) == spec
    changed = Runs(files).set_control(RUN, Control(max_duration=90.0, concurrency=3))
    assert effective(spec, changed) == a_spec(max_duration=90.0, rate="5/s", concurrency=3)


def test_a_control_tells_since_when_the_run_goes_on(files: MemoryFiles) -> None:
    runs = Runs(files)
    assert runs.set_control(RUN, Control(at="1", rate="5/s")).since == ""
    assert runs.set_control(RUN, Control(verb=Verb.PAUSE, at="2")).since == ""
    assert runs.set_control(RUN, Control(at="3")).since == "3"
    assert runs.set_control(RUN, Control(at="4", rate="6/s")).since == "3"
    assert runs.set_control(RUN, Control(at="5", since="5")).since == "5"


def test_what_is_cancelled_stays_so_whatever_is_said_of_later_passes(files: MemoryFiles) -> None:
    runs = Runs(files)
    runs.set_control(RUN, Control(verb=Verb.CANCEL, cancelled=1))
    assert [runs.control(RUN).of(number) for number in range(3)] == [Verb.CANCEL] * 3
    runs.set_control(RUN, Control(verb=Verb.RESUME))
    assert [runs.control(RUN).of(number) for number in range(3)] == [Verb.CANCEL, Verb.CANCEL, Verb.RESUME]
    runs.set_control(RUN, Control(verb=Verb.PAUSE))
    assert [runs.control(RUN).of(number) for number in range(3)] == [Verb.CANCEL, Verb.CANCEL, Verb.PAUSE]


def test_a_change_is_made_to_what_somebody_else_wrote_meanwhile(files: MemoryFiles) -> None:
    runs = Runs(files)

    def following(before: Control) -> Control:
        if before.n == 0:
            runs.set_control(RUN, Control(verb=Verb.PAUSE, rate="5/s"))
        return replace(before, concurrency=3)

    changed = runs.change(RUN, following)
    assert changed == runs.control(RUN) == Control(2, Verb.PAUSE, rate="5/s", concurrency=3)


def test_a_list_is_copied_whole_and_read_again(files: MemoryFiles) -> None:
    runs, content = Runs(files), b"handle\n" * 400_000
    runs.copy_input(RUN, "handles.txt", io.BytesIO(content))
    with runs.open_input(RUN, "handles.txt") as stream:
        assert stream.read() == content


def test_what_is_kept_beside_a_run_is_kept_once(files: MemoryFiles) -> None:
    runs = Runs(files)
    runs.keep_input(RUN, "sample.json", b"1")
    runs.keep_input(RUN, "sample.json", b"2")
    assert runs.read_input(RUN, "sample.json") == b"1"
