"""The tables `[[schedule]]` of `tagmill.toml`: when a source is tagged again, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, time
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    create_model,
    model_validator,
)

from tagmill.config.celery import LANES
from tagmill.config.settings import TOML_FILE, Age, RateSetting, Settings
from tagmill.producer.preparation import RunOptions
from tagmill.producer.schedules.cron import Cron
from tagmill.producer.schedules.due import CatchUp
from tagmill.producer.schedules.timetable import Timetable
from tagmill.producer.sources.options import SourceOptions
from tagmill.producer.sources.spec import STDIN
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Json
from tagmill.worker.rate import Rate

#: Settings that a schedule may have of its own: those that a run freezes, and what its start needs.
OF_A_RUN = (
    *("engine", "workflow_id", "task_name", "pipeline", "policy", "dedupe", "transfer", "keep_uploads"),
    *("write_back", "sidecar_prefix", "probe", "allow_new_versions", "allow_copy_events", "chunk_size"),
    *("max_calls", "max_cost", "price_per_1000", "max_duration", "max_failure_rate"),
)
SLOT_FORMAT = "%Y%m%dt%H%Mz"
TIME_RULE = 'write a time of day such as "08:00"'
_STRICT = ConfigDict(
    frozen=True,
    extra="forbid",
    hide_input_in_errors=True,
    arbitrary_types_allowed=True,
    str_strip_whitespace=True,
)
_BRANCHES = {"text", "steps"}  #: of a rate; they are no keys


def _time_of_day(value: object) -> time:
    try:
        return datetime.strptime(str(value), "%H:%M").time()  # noqa: DTZ007 - of any day and zone
    except ValueError:
        raise ValueError(TIME_RULE) from None


def _zone(value: object) -> object:
    try:
        return value if isinstance(value, ZoneInfo) else ZoneInfo(str(value))
    except (ValueError, OSError, LookupError):  # of which ZoneInfoNotFoundError is one
        raise ValueError("write an IANA name such as Europe/Berlin, or UTC") from None


def _lane(lane: str) -> str:
    if lane not in LANES:
        raise ValueError(f"write one of {', '.join(LANES)}")
    return lane


def _repeatable_source(source: str) -> str:
    if source == STDIN:
        raise ValueError("a schedule has no stdin: name a folder, s3://bucket/prefix or a list")
    return source


class RateStep(BaseModel):
    model_config = _STRICT

    at: Annotated[time, BeforeValidator(_time_of_day)]
    rate: RateSetting


Rates = Annotated[
    Annotated[RateSetting, Tag("text")] | Annotated[tuple[RateStep, ...], Field(min_length=1), Tag("steps")],
    Discriminator(lambda value: "steps" if isinstance(value, list | tuple) else "text"),
]
Texts = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]
_RunSettings: type[BaseModel] = create_model(  # type: ignore[call-overload] # its fields are known at run time
    "_RunSettings",
    __config__=_STRICT,
    **{name: (Settings.model_fields[name].annotation, Settings.model_fields[name]) for name in OF_A_RUN},
)


class Schedule(BaseModel):
    """One table. Its keys are its own, or what `tagmill run` takes as flags."""

    model_config = ConfigDict({**_STRICT, "extra": "allow"})

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")  #: with a slot it is a run id
    cron: str
    time_zone: Annotated[ZoneInfo, BeforeValidator(_zone)] = ZoneInfo("UTC")
    source: Annotated[str, Field(min_length=1), AfterValidator(_repeatable_source)]
    catch_up: CatchUp = CatchUp.LATEST
    lane: Annotated[str, AfterValidator(_lane)] = "nightly"

    rate: Rates | None = None
    shared_path: bool = False
    force: bool = False
    mode: str | None = None
    retag_older_than: Age | None = None

    include: Texts = ()
    exclude: Texts = ()
    extension: Texts = ()
    min_size: str | None = None
    max_size: str | None = None
    since: str | None = None
    limit: int | None = None
    sample: int | None = None
    seed: int | None = None
    list_format: str | None = None
    field: str | None = None
    all_versions: bool = False

    @model_validator(mode="after")
    def _cron_is_one(self) -> Schedule:
        try:
            self.timing  # noqa: B018 - parses it
        except ValueError as error:
            raise ValueError(f"cron: {error}") from None
        return self

    @model_validator(mode="after")
    def _steps_differ(self) -> Schedule:
        times = Counter(step.at for step in self.rate) if isinstance(self.rate, tuple) else Counter[time]()
        if twice := [at for at, count in times.items() if count > 1]:
            raise ValueError(f"rate: {twice[0]:%H:%M} is there twice")
        return self

    @property
    def timing(self) -> Cron:
        return Cron.parse(self.cron, self.time_zone)

    @property
    def timetable(self) -> Timetable | None:
        """None: one rate, or none of its own, holds all day."""
        if not isinstance(self.rate, tuple):
            return None
        return Timetable(tuple((step.at, step.rate) for step in self.rate), self.time_zone)

    def run_id(self, slot: datetime) -> str:
        """`slot`: in UTC."""
        return f"{self.name}-{slot:{SLOT_FORMAT}}"

    def settings(self, fleet: Settings) -> Settings:
        """Return the fleet's settings with those of the schedule. Raise `ValidationError`."""
        own = _RunSettings.model_validate(self.model_extra)
        return fleet.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})

    def selection(self) -> SourceOptions:
        own = {
            name: getattr(self, name) for name in SourceOptions.__dataclass_fields__ if name != "extensions"
        }
        return SourceOptions(extensions=self.extension, **own)

    def options(self, run_id: str, now: datetime) -> RunOptions:
        return RunOptions(
            rate=self._rate(now),
            run_id=run_id,
            shared_path=self.shared_path,
            force=self.force,
            mode=self.mode,
            retag_older_than=self.retag_older_than,
            lane=self.lane,
        )

    def _rate(self, now: datetime) -> Rate | None:
        timetable = self.timetable
        if timetable is not None:
            return timetable.at(now).rate
        return self.rate if isinstance(self.rate, Rate) else None


def schedules_of(settings: Settings) -> list[Schedule]:
    """Raise `ConfigError`: one line that names schedule and key, and the rule that was broken."""
    found = [_read(table, number, settings) for number, table in enumerate(settings.schedule, start=1)]
    names = Counter(schedule.name for schedule in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ConfigError(f"{TOML_FILE}: schedule {twice[0]}: name: two schedules have it")
    return found


def find_schedule(settings: Settings, name: str) -> Schedule:
    """Raise `ConfigError`."""
    found = schedules_of(settings)
    names = ", ".join(schedule.name for schedule in found) or "none"
    schedule = next((schedule for schedule in found if schedule.name == name), None)
    if schedule is None:
        raise ConfigError(f"no schedule {name!r} in {TOML_FILE}: there are {names}")
    return schedule


def _read(table: Mapping[str, Any], number: int, settings: Settings) -> Schedule:
    name = table.get("name")
    try:
        schedule = Schedule.model_validate(table)
        schedule.settings(settings)
    except ValidationError as error:
        called = name if isinstance(name, str) and name else number
        raise ConfigError(f"{TOML_FILE}: schedule {called}: {_first_problem(error)}") from None
    return schedule


def _first_problem(error: ValidationError) -> str:
    problem: Json = dict(error.errors(include_url=False, include_input=False)[0])
    rule = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        rule = "is no option of a schedule; see docs/schedules.md"
    where = ".".join(str(part) for part in problem["loc"] if part not in _BRANCHES)
    return f"{where}: {rule}" if where else rule
