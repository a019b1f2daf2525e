"""What a user says about SOURCE, as typed, and what it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tagmill.producer.sources.base import Filters
from tagmill.producer.sources.filtering import Sieve
from tagmill.producer.sources.handles import ListFormat
from tagmill.producer.sources.quantities import parse_size, parse_time
from tagmill.worker.errors import ConfigError

ANY_EXTENSION = "*"
SEEDS = 1 << 32
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Every method raises `ConfigError` in one line."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_size: str | None = None
    max_size: str | None = None
    since: str | None = None
    extensions: tuple[str, ...] = ()  #: `*` for any
    limit: int | None = None
    sample: int | None = None
    seed: int | None = None
    list_format: str | None = None
    field: str | None = None
    all_versions: bool = False

    def check_counts(self) -> None:
        for name, count in (("limit", self.limit), ("sample", self.sample)):
            if count is not None and count < 1:
                raise ConfigError(f"--{name} must be at least 1")
        if self.seed is not None and not 0 <= self.seed < SEEDS:
            raise ConfigError(f"--seed must be from 0 to {SEEDS - 1}")
        if self.seed is not None and self.sample is None:
            raise ConfigError("--seed: a seed is for a sample: say how many images to sample")

    def filters(self, default_extensions: tuple[str, ...] = ()) -> Filters:
        try:
            filters = Filters(
                include=self.include,
                exclude=self.exclude,
                min_size=_parsed("--min-size", self.min_size, parse_size),
                max_size=_parsed("--max-size", self.max_size, parse_size),
                since=_parsed("--since", self.since, parse_time),
                extensions=self.wanted_extensions(default_extensions),
            )
            Sieve(filters)  # compiles the globs
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return filters

    def wanted_extensions(self, default: tuple[str, ...]) -> tuple[str, ...]:
        """In lower case, without dots; none means any."""
        if ANY_EXTENSION in self.extensions:
            return ()
        return tuple(name.lower().removeprefix(".") for name in self.extensions) or default

    def format_or(self, default: ListFormat) -> ListFormat:
        said = self.list_format or default
        sayable = [one for one in ListFormat if one is not ListFormat.INVENTORY]
        if said not in sayable:
            raise ConfigError(f"--list-format: {said!r} is none: use {', '.join(sayable)}")
        return ListFormat(said)

    def refuse_filters(self) -> None:
        if self.filters() != Filters():
            raise ConfigError(
                "a list of handles holds no names, sizes or times: filters are for S3 and folders"
            )

    def refuse_list_options(self) -> None:
        if self.list_format or self.field:
            raise ConfigError("a list's format and its column or field are for lists of handles only")


def _parsed(flag: str, text: str | None, parse: Callable[[str], T]) -> T | None:
    """Raise ValueError that names the flag."""
    try:
        return parse(text) if text else None
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from None
