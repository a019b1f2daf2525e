"""Everything an operator can set: flag > environment `TAGMILL_*` > `tagmill.toml` > default."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tagmill.config.amounts import WHOLE, age, duration, percentage, share_of_all
from tagmill.config.celery import LANES
from tagmill.worker.errors import ConfigError
from tagmill.worker.rate import Rate

ENV_PREFIX = "TAGMILL_"
TOML_FILE = "tagmill.toml"
MAX_CONCURRENCY = 1000  #: calls in flight of one process
LONGEST_CHUNK_SECONDS = 340  #: with the longest upload (256 MB at 1 MB/s) still below Celery's hard limit
_TEST_PREFIX = "TAGMILL_TEST_"  #: variables of the test suite, no settings
SINKS = ("metadata", "tags", "annotation", "sidecar")  #: in the order in which an image is written to them
_AWS_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REDIS_SCHEMES = {"redis", "rediss", "unix"}


def _rate(value: object) -> object:
    # The environment is read as JSON where a field is no plain string: `7` comes as a number.
    return value if isinstance(value, Rate) else Rate.parse(str(value))


def _redis_url(value: object) -> object:
    parts = _parts(value)
    if parts is not None and "cluster" in parts.scheme:
        raise ValueError("Celery cannot use Redis Cluster as a broker; name a single Redis primary")
    if parts is None or parts.scheme not in _REDIS_SCHEMES or not _names_a_database(parts):
        raise ValueError("write redis://host:port/db, rediss://host:port/db or unix:///path")
    return value


def _names_a_database(parts: SplitResult) -> bool:
    """Redis' client takes another path than a number for database 0."""
    if parts.scheme == "unix":
        return parts.path not in {"", "/"}
    return bool(parts.hostname) and re.fullmatch(r"/?\d*", parts.path) is not None


def _http_url(value: object) -> object:
    parts = _parts(value)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("write an http:// or https:// address, without user and password")
    return str(value).rstrip("/")


def _write_back(value: object) -> str:
    """Return the names in `SINKS`' order, joined by commas; the file may hold a list."""
    names = [str(name).strip() for name in (value if isinstance(value, list) else str(value).split(","))]
    if not names or not set(names) <= {*SINKS, "none"}:
        raise ValueError(f"write one or more of {', '.join(SINKS)}, joined by commas, or none")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is named twice")
    if "none" in names:
        if len(names) > 1:
            raise ValueError("none goes with nothing else")
        return "none"
    return ",".join(sorted(names, key=SINKS.index))


def _workflow_id(value: object) -> str:
    if _UUID.fullmatch(text := str(value)) is None:
        raise ValueError("write the Workflow's id as the portal shows it: 8-4-4-4-12 hexadecimal digits")
    return text


def _lanes(value: object) -> str:
    """Return the names in `LANES`' order, joined by commas; the file may hold a list."""
    names = [str(name).strip() for name in (value if isinstance(value, list) else str(value).split(","))]
    if not names or not set(names) <= set(LANES):
        raise ValueError(f"write one or more of {', '.join(LANES)}, joined by commas")
    return ",".join(lane for lane in LANES if lane in names)


def _shares(value: object) -> str:
    """Return each lane with its percentage, joined by commas; the file may hold a table."""
    rule = f"write percentages, 100 at most together, of {', '.join(LANES)}, such as events=50,backfill=20"
    pairs = value.items() if isinstance(value, dict) else _pairs(str(value))
    shares = [(str(lane).strip(), share_of_all(percent, rule)) for lane, percent in pairs]
    names = [lane for lane, _ in shares]
    if not set(names) <= set(LANES) or len(set(names)) < len(names) or sum(dict(shares).values()) > WHOLE:
        raise ValueError(rule)
    return ",".join(f"{lane}={percent:g}" for lane, percent in shares)


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(lane, percent) for lane, _, percent in (part.partition("=") for part in text.split(","))]


def _tables(value: object) -> object:
    if not isinstance(value, list | tuple) or not all(isinstance(table, dict) for table in value):
        raise ValueError("write a table [[schedule]], in two pairs of brackets, for each")
    return value


def _parts(url: object) -> SplitResult | None:
    """None: not even host and port can be told."""
    try:
        parts = urlsplit(str(url))
        parts.port  # noqa: B018 - raises ValueError for what is no port
    except ValueError:
        return None
    return parts


LanesSetting = Annotated[str, BeforeValidator(_lanes)]
Tables = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_tables)]
SharesSetting = Annotated[str, BeforeValidator(_shares)]
WriteBackSetting = Annotated[str, BeforeValidator(_write_back)]
WorkflowId = Annotated[str, BeforeValidator(_workflow_id)]
RateSetting = Annotated[Rate, BeforeValidator(_rate), PlainSerializer(str)]
HttpUrl = Annotated[str, BeforeValidator(_http_url)]
Duration = Annotated[float, BeforeValidator(duration)]
Age = Annotated[float, BeforeValidator(age)]
Percentage = Annotated[float, BeforeValidator(percentage)]
Money = Annotated[Decimal, Field(gt=0, max_digits=20)]


def _split(value: object) -> object:
    """A text holds several, joined by commas."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


#: A shorter one could be guessed, and taking it out of logs would make them unreadable.
WebhookSecrets = Annotated[
    tuple[Annotated[SecretStr, Field(min_length=8)], ...], Field(min_length=1), BeforeValidator(_split)
]


class WebhookEndpoint(BaseModel):
    """One webhook of the portal, as we receive it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secrets: WebhookSecrets  #: any of them may have signed: there are two while one replaces the other


class S3Prices(BaseModel):
    """What S3 takes for 1,000 requests, in the currency of the other prices, and when that was looked up."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    put_per_1000: Money  #: PUT, COPY and LIST
    get_per_1000: Money  #: GET, HEAD and all others
    as_of: date


class Settings(BaseSettings):
    """Built once at start-up; the rest of the program takes plain values."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        toml_file=TOML_FILE,
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,  # of a secret too: a stray line end makes every signature wrong
    )

    redis_url: Annotated[str, BeforeValidator(_redis_url)] | None = Field(
        None, repr=False
    )  #: may hold a password; None: a private server for the run
    redis_prefix: str = Field("tagmill", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    run_store: str = Field("./tagmill-runs", min_length=1)
    state_dir: Path | None = None  #: None: `$XDG_STATE_HOME/tagmill`

    rate: RateSetting | None = None  #: the account's; None: 4/s, or 100/s for the sandbox
    concurrency: int | None = Field(
        None, ge=1, le=MAX_CONCURRENCY
    )  #: calls in flight per process; None: from the rate
    lanes: LanesSetting = ",".join(LANES)  #: that a worker serves, the first of them first
    lane_shares: SharesSetting = "events=50,nightly=30,backfill=20"  #: percent of the rate, guaranteed
    processes: int | None = Field(None, ge=1, le=64)  #: per worker; None: one a core, at most 4
    engine: Literal["filestack", "filestack-workflow", "sandbox"] | None = None
    workflow_id: WorkflowId | None = None  #: of the engine filestack-workflow
    task_name: str | None = Field(None, min_length=1)  #: whose tags count; None: the first that has any
    job_seconds: float = Field(60.0, gt=0, le=3600)  #: that a workflow job is expected to take
    job_deadline: float = Field(900.0, gt=0, le=86_400)  #: after which its image has failed
    write_back: WriteBackSetting | None = None  #: None: what fits the source
    sidecar_prefix: str | None = None  #: of S3 images; None: beside them
    probe: Literal["auto", "off"] = "auto"  #: try on a scratch object what sinks rely on
    allow_new_versions: bool = False  #: a write-back may add versions without a question
    allow_copy_events: bool = False  #: and fire `ObjectCreated:Copy`
    policy: Path | None = None  #: a file; a run freezes what it says
    pipeline: Path | None = None  #: likewise; None: of each image the tags
    transfer: Literal["auto", "upload"] = "auto"
    keep_uploads: bool = False
    dedupe: Literal["off", "exact"] = "off"

    max_calls: int | None = Field(None, ge=1)  #: of a run
    max_cost: Money | None = None  #: of a run, in the currency of the price
    max_calls_per_day: int | None = Field(None, ge=1)  #: of the account, days of UTC
    max_calls_per_month: int | None = Field(None, ge=1)  #: of the account, months of UTC
    price_per_1000: Money | None = None
    s3_prices: S3Prices | None = None  #: a table of the file, or JSON
    max_duration: Duration | None = None  #: seconds, of a run from each start or resumption
    max_failure_rate: Percentage = 20.0  #: percent of the last images; 100: never too many
    failure_sample: int = Field(200, ge=1, le=100_000)  #: images that the rate is taken over, at least

    shard_size: int = Field(10_000, ge=1, le=10_000)
    chunk_size: int | None = Field(None, ge=1, le=1_000)  #: None: about a minute's work at the rate
    chunk_seconds: float = Field(240.0, gt=0, le=500)  #: a chunk that takes longer is parked
    lease_seconds: float = Field(90.0, ge=1, le=3600)
    call_timeout: float = Field(60.0, gt=0, le=300)  #: one call in all, seconds
    outage_seconds: float = Field(7200.0, gt=0)  #: the API down for longer pauses the run

    filestack_api_key: SecretStr | None = Field(None, min_length=1)
    filestack_app_secret: SecretStr | None = Field(None, min_length=1)
    filestack_cdn_url: HttpUrl = "https://cdn.filestackcontent.com"
    filestack_api_url: HttpUrl = "https://www.filestackapi.com/api"
    filestack_storage_alias: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]+$")
    filestack_tags_version: int | None = Field(None, ge=1, le=2)
    filestack_resize: int | None = Field(None, ge=1, le=10_000)  #: shrink to this height before tagging
    filestack_url_form: Literal["percent", "raw", "quoted", "b64"] = "percent"
    filestack_buckets: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]+(,[A-Za-z0-9._-]+)*$"
    )  #: one's own, joined by commas: write-back may reach what handles keep there
    s3_endpoint_url: HttpUrl | None = None
    list_workers: int = Field(1, ge=1, le=64)  #: requests at once that list a bucket

    webhooks: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")], WebhookEndpoint] = Field(
        default={}, repr=False
    )  #: by the name of the endpoint
    webhook_secrets: Annotated[WebhookSecrets | None, NoDecode] = None  #: of an endpoint `default`
    webhook_max_age: Duration | None = None  #: seconds; None: a signature does not grow old
    webhook_grace: Duration = 120.0  #: seconds; longer than a lease, so that a run has named its jobs

    schedule: Tables = ()  #: tables, which whoever keeps them reads

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @model_validator(mode="after")
    def _chunk_ends_before_it_is_killed(self) -> Settings:
        if self.chunk_seconds + self.call_timeout > LONGEST_CHUNK_SECONDS:
            raise ValueError(
                f"TAGMILL_CHUNK_SECONDS and TAGMILL_CALL_TIMEOUT: {LONGEST_CHUNK_SECONDS} at most together"
            )
        return self

    @model_validator(mode="after")
    def _key_and_secret_together(self) -> Settings:
        if (self.filestack_api_key is None) != (self.filestack_app_secret is None):
            missing = "api_key" if self.filestack_api_key is None else "app_secret"
            raise ValueError(
                f"TAGMILL_FILESTACK_{missing.upper()} is missing: set key and secret, or neither"
            )
        return self

    @property
    def webhook_endpoints(self) -> dict[str, list[str]]:
        """Secrets by the name of the endpoint."""
        found = {name: list(endpoint.secrets) for name, endpoint in self.webhooks.items()}
        if self.webhook_secrets is not None:
            found.setdefault("default", []).extend(self.webhook_secrets)
        return {name: [each.get_secret_value() for each in secrets] for name, secrets in found.items()}

    def secrets(self) -> list[str]:
        """Values that must appear nowhere: credentials, AWS' too, and the password in Redis' address."""
        found = [self.filestack_api_key, self.filestack_app_secret]
        webhooks = [secret for secrets in self.webhook_endpoints.values() for secret in secrets]
        password = urlsplit(self.redis_url).password if self.redis_url else None
        passwords = [password, unquote(password)] if password else []
        others = [value for name in _AWS_SECRETS if (value := os.environ.get(name))]
        return [secret.get_secret_value() for secret in found if secret] + webhooks + passwords + others

    def share_of(self, lane: str) -> float:
        """Return what is guaranteed to the lane of the rate, 0.0 to 1.0."""
        return float(dict(_pairs(self.lane_shares)).get(lane, 0)) / WHOLE

    @property
    def has_credentials(self) -> bool:
        return self.filestack_api_key is not None


def load_settings(flags: Mapping[str, Any] | None = None) -> Settings:
    """Raise `ConfigError`: one line that names the variable, key or flag, and the rule it broke."""
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    _refuse_unknown_variables(os.environ)
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigError(_first_problem(error, given)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{TOML_FILE}: {error}") from None


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environment):
        upper = name.upper()  # pydantic reads either case
        if upper.startswith(ENV_PREFIX) and not upper.startswith(_TEST_PREFIX) and upper not in known:
            raise ConfigError(f"{name} is no setting of Tagmill{_suggestion(upper, known)}")


def _suggestion(name: str, known: set[str]) -> str:
    # Without what all of them begin with, which would make any two look alike.
    names = {one.removeprefix(ENV_PREFIX): one for one in known}
    close = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), names, n=1)
    return f"; did you mean {names[close[0]]}?" if close else "; see docs/configuration.md"


def _first_problem(error: ValidationError, flags: Mapping[str, Any]) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    rule = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return rule
    name, *below = map(str, problem["loc"])
    if problem["type"] == "extra_forbidden" and not below:
        known = set(Settings.model_fields)
        return f"{TOML_FILE}: {name} is no setting of Tagmill{_suggestion(name, known)}"
    return f"{'.'.join([_origin(name, flags), *below])}: {rule}"


def _origin(name: str, flags: Mapping[str, Any]) -> str:
    if name in flags:
        return "--" + name.replace("_", "-")
    variable = ENV_PREFIX + name.upper()
    return next((found for found in os.environ if found.upper() == variable), f"{TOML_FILE}: {name}")
