"""The tables `[[schedule]]`: what they may say, and the one line for what they may not."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, time
from pathlib import Path

import pytest

from tagmill.config.settings import Settings, load_settings
from tagmill.producer.cli.run import run
from tagmill.producer.schedules.due import CatchUp
from tagmill.producer.schedules.schedule import OF_A_RUN, Schedule, find_schedule, schedules_of
from tagmill.worker.errors import ConfigError
from tagmill.worker.rate import Rate

LEAST = 'name = "nightly"\ncron = "0 2 * * *"\nsource = "s3://bucket/photos"\n'
WHOLE = """
[[schedule]]
name = "nightly"
cron = "30 2 * * 1-5"
time_zone = "Europe/Berlin"
source = "s3://bucket/photos"
catch_up = "all"
lane = "backfill"
rate = [{at = "08:00", rate = "5/s"}, {at = "20:00", rate = "50/s"}]
mode = "missing"
write_back = ["sidecar", "tags"]
max_calls = 500
max_duration = "6h"
extension = "jpg"
exclude = ["*/tmp/*"]
min_size = "10KB"
"""
#: Options of `tagmill run` that a schedule has no use for: of one run, of one process, or where things are.
NOT_OF_A_SCHEDULE = {
    *("resume", "plan", "dry_run", "run_id", "detach", "concurrency", "processes", "as_json"),
    "list_workers",  # who plans decides: the setting of the beat
    *("run_store", "redis_url", "state_dir", "log_level", "log_format"),
}
NOW = datetime(2026, 11, 23, 7, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(folder: Path, *tables: str) -> list[Schedule]:
    (folder / "tagmill.toml").write_text("\n".join(f"[[schedule]]\n{table}" for table in tables))
    return schedules_of(load_settings())


def complaint(folder: Path, *tables: str) -> str:
    with pytest.raises(ConfigError) as refused:
        read(folder, *tables)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_table_says_all_that_a_run_can(folder: Path) -> None:
    (folder / "tagmill.toml").write_text(f'dedupe = "exact"\nmax_calls = 7\n{WHOLE}')
    fleet = load_settings()
    (schedule,) = schedules_of(fleet)
    settings, options = schedule.settings(fleet), schedule.options("nightly-1", NOW)
    assert (settings.write_back, settings.max_calls, settings.max_duration) == ("tags,sidecar", 500, 6 * 3600)
    assert settings.dedupe == "exact"  # the fleet's, where it says nothing
    assert (options.rate, options.mode, options.lane) == (Rate.parse("5/s"), "missing", "backfill")
    assert schedule.catch_up is CatchUp.ALL
    selection = schedule.selection()
    assert (selection.extensions, selection.exclude, selection.min_size) == (("jpg",), ("*/tmp/*",), "10KB")
    assert schedule.timetable is not None
    assert [at for at, _ in schedule.timetable.rates] == [time(8), time(20)]


def test_most_of_it_has_a_default(folder: Path) -> None:
    (schedule,) = read(folder, LEAST)
    assert (schedule.lane, schedule.catch_up, str(schedule.time_zone)) == ("nightly", CatchUp.LATEST, "UTC")
    assert schedule.options("nightly-1", NOW).rate is None
    assert schedule.run_id(datetime(2026, 11, 22, 2, tzinfo=UTC)) == "nightly-20261122t0200z"


def test_a_plain_rate_holds_all_day(folder: Path) -> None:
    (schedule,) = read(folder, LEAST + 'rate = "20/s,5000/d"\n')
    assert (schedule.options("x", NOW).rate, schedule.timetable) == (Rate.parse("20/s,5000/d"), None)


def test_schedules_come_from_the_environment_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del folder
    monkeypatch.setenv("TAGMILL_SCHEDULE", '[{"name": "n", "cron": "0 2 * * *", "source": "s3://b"}]')
    assert [schedule.name for schedule in schedules_of(load_settings())] == ["n"]


def test_it_knows_every_option_of_a_run() -> None:
    options = set(inspect.signature(run).parameters) - NOT_OF_A_SCHEDULE
    assert options <= set(Schedule.model_fields) | set(OF_A_RUN)
    assert set(OF_A_RUN) <= set(Settings.model_fields) & options


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('cron = "0 2 * * *"\nsource = "x"', "schedule 1: name: Field required"),
        ('name = "n"\nsource = "x"', "schedule n: cron: Field required"),
        (LEAST.replace("nightly", "Nightly"), "schedule Nightly: name: "),
        (LEAST.replace("0 2 * * *", "0 25 * * *"), "schedule nightly: cron: bad hour in '0 25 * * *'"),
        (LEAST.replace("0 2 * * *", "daily"), "schedule nightly: cron: write five fields"),
        (LEAST + 'time_zone = "Mars/Olympus"', "schedule nightly: time_zone: write an IANA name"),
        (LEAST + 'time_zone = "../etc"', "schedule nightly: time_zone: write an IANA name"),
        (LEAST + 'catch_up = "some"', "schedule nightly: catch_up: "),
        (LEAST + 'lane = "fast"', "schedule nightly: lane: write one of events, nightly, backfill"),
        (LEAST + 'rate = "fast"', "schedule nightly: rate: write calls per unit"),
        (LEAST + "rate = []", "schedule nightly: rate: "),
        (LEAST + 'rate = [{at = "25:00", rate = "5/s"}]', "schedule nightly: rate.0.at: write a time of day"),
        (
            LEAST + 'rate = [{at = "08:00", rate = "5"}]',
            "schedule nightly: rate.0.rate: write calls per unit",
        ),
        (
            LEAST + 'rate = [{at = "08:00", rate = "5/s"}, {at = "08:00", rate = "6/s"}]',
            "schedule nightly: rate: 08:00 is there twice",
        ),
        (LEAST + 'write_back = "moon"', "schedule nightly: write_back: write one or more of"),
        (LEAST + "max_calls = 0", "schedule nightly: max_calls: "),
        (LEAST + "chunk_size = 1001", "schedule nightly: chunk_size: "),
        (LEAST + 'wirte_back = "tags"', "schedule nightly: wirte_back: is no option of a schedule"),
        (LEAST + 'redis_url = "redis://h"', "schedule nightly: redis_url: is no option of a schedule"),
        (LEAST.replace("s3://bucket/photos", "-"), "schedule nightly: source: a schedule has no stdin"),
        (LEAST + 'retag_older_than = "soon"', "schedule nightly: retag_older_than: write an age"),
        (LEAST + "retag_older_than = 90", "schedule nightly: retag_older_than: write an age with its unit"),
    ],
)
def test_a_mistake_is_one_line_with_schedule_and_key(folder: Path, table: str, said: str) -> None:
    assert complaint(folder, table).startswith(f"tagmill.toml: {said}")


def test_names_differ(folder: Path) -> None:
    assert complaint(folder, LEAST, LEAST) == "tagmill.toml: schedule nightly: name: two schedules have it"


def test_an_unknown_name_is_told_the_known_ones(folder: Path) -> None:
    read(folder, LEAST)
    with pytest.raises(ConfigError, match="there are nightly"):
        find_schedule(load_settings(), "weekly")


def test_the_longest_name_makes_a_run_id(folder: Path) -> None:
    (schedule,) = read(folder, LEAST.replace("nightly", "n" * 48))
    assert len(schedule.run_id(NOW)) <= 64


@pytest.mark.parametrize("written", ["schedule = 5", '[schedule]\nname = "n"'])
def test_what_is_no_list_of_tables_is_told_how_to_write_one(folder: Path, written: str) -> None:
    (folder / "tagmill.toml").write_text(written)
    with pytest.raises(ConfigError, match=r"schedule: write a table \[\[schedule\]\]"):
        load_settings()
