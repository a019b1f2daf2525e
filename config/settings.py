"""Everything an operator can set: flag > environment `TAGMILL_*` > `tagmill.toml` > default."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainSerializer, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tagmill.worker.errors import ConfigError
from tagmill.worker.rate import Rate

ENV_PREFIX = "TAGMILL_"
TOML_FILE = "tagmill.toml"
_TEST_PREFIX = "TAGMILL_TEST_"  #: variables of the test suite, no settings
_REDIS_SCHEMES = {"redis", "rediss", "unix"}


def _rate(value: object) -> object:
    # The environment is read as JSON where a field is no plain string: `7` comes as a number.
    return value if isinstance(value, Rate) else Rate.parse(str(value))


def _redis_url(value: object) -> object:
    scheme = urlsplit(str(value)).scheme
    if "cluster" in scheme:
        raise ValueError("Celery cannot use Redis Cluster as a broker; name a single Redis primary")
    if scheme not in _REDIS_SCHEMES:
        raise ValueError("write redis://host:port/db, rediss://host:port/db or unix:///path")
    return value


def _http_url(value: object) -> object:
    parts = urlsplit(str(value))
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("write an http:// or https:// address")
    return str(value).rstrip("/")


RateSetting = Annotated[Rate, BeforeValidator(_rate), PlainSerializer(str)]
HttpUrl = Annotated[str, BeforeValidator(_http_url)]


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
    )

    redis_url: Annotated[str, BeforeValidator(_redis_url)] | None = (
        None  #: None: a private server for the run
    )
    redis_prefix: str = Field("tagmill", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    run_store: str = "./tagmill-runs"
    state_dir: Path | None = None  #: None: `$XDG_STATE_HOME/tagmill`

    rate: RateSetting | None = None  #: the account's; None: 4/s, or 100/s for the sandbox
    concurrency: int | None = Field(None, ge=1, le=1000)  #: calls in flight per process; None: from the rate
    processes: int | None = Field(None, ge=1, le=64)  #: per worker; None: one a core, at most 4
    engine: Literal["filestack", "sandbox"] | None = None
    write_back: Literal["metadata", "sidecar", "none"] | None = None
    transfer: Literal["auto", "upload"] = "auto"
    keep_uploads: bool = False

    shard_size: int = Field(10_000, ge=1, le=10_000)
    chunk_size: int | None = Field(None, ge=1, le=1_000)  #: None: about a minute's work at the rate
    chunk_seconds: float = Field(240.0, gt=0, le=500)  #: a chunk that takes longer is parked
    lease_seconds: float = Field(90.0, ge=1, le=3600)
    call_timeout: float = Field(60.0, gt=0, le=300)  #: one call in all, seconds
    outage_seconds: float = Field(7200.0, gt=0)  #: the API down for longer pauses the run

    filestack_api_key: SecretStr | None = None
    filestack_app_secret: SecretStr | None = None
    filestack_cdn_url: HttpUrl = "https://cdn.filestackcontent.com"
    filestack_api_url: HttpUrl = "https://www.filestackapi.com/api"
    filestack_storage_alias: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]+$")
    filestack_tags_version: int | None = Field(None, ge=1, le=2)
    filestack_resize: int | None = Field(None, ge=1, le=10_000)  #: shrink to this height before tagging
    filestack_url_form: Literal["percent", "raw", "quoted", "b64"] = "percent"
    s3_endpoint_url: HttpUrl | None = None

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
    def _key_and_secret_together(self) -> Settings:
        if (self.filestack_api_key is None) != (self.filestack_app_secret is None):
            missing = "api_key" if self.filestack_api_key is None else "app_secret"
            raise ValueError(
                f"TAGMILL_FILESTACK_{missing.upper()} is missing: set key and secret, or neither"
            )
        return self

    def secrets(self) -> list[str]:
        """Values that must appear nowhere: credentials, and the password in Redis' address."""
        found = [self.filestack_api_key, self.filestack_app_secret]
        password = urlsplit(self.redis_url).password if self.redis_url else None
        return [secret.get_secret_value() for secret in found if secret] + ([password] if password else [])

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
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{TOML_FILE}: {error}") from None


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environment):
        if name.startswith(ENV_PREFIX) and not name.startswith(_TEST_PREFIX) and name not in known:
            raise ConfigError(f"{name} is no setting of Tagmill{_suggestion(name, known)}")


def _suggestion(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else "; see docs/configuration.md"


def _first_problem(error: ValidationError, flags: Mapping[str, Any]) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    rule = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return rule
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        known = set(Settings.model_fields)
        return f"{TOML_FILE}: {name} is no setting of Tagmill{_suggestion(name, known)}"
    return f"{_origin(name, flags)}: {rule}"


def _origin(name: str, flags: Mapping[str, Any]) -> str:
    if name in flags:
        return "--" + name.replace("_", "-")
    variable = ENV_PREFIX + name.upper()
    return variable if variable in os.environ else f"{TOML_FILE}: {name}"
