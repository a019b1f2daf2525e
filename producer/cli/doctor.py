"""`tagmill doctor`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tagmill.producer.cli.options import AsJson, RedisUrl, RunStore, settings_from
from tagmill.producer.cli.run_options import AllVersions
from tagmill.producer.exit_codes import ExitCode

if TYPE_CHECKING:
    from tagmill.config.settings import Settings
    from tagmill.producer.sources.spec import SourceSpec
    from tagmill.worker.check import Check


def doctor(
    source: Annotated[str | None, typer.Argument(help="What you mean to tag; else only the rest.")] = None,
    *,
    write_back: Annotated[str | None, typer.Option(help="As for `tagmill run`.")] = None,
    pay: Annotated[
        bool | None, typer.Option("--pay/--no-pay", help="Make one real tags call; asks unless said.")
    ] = None,
    all_versions: AllVersions = False,
    policies: Annotated[
        bool, typer.Option("--policies", help="Only print the least that must be allowed.")
    ] = False,
    run_store: RunStore = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Try everything that a run needs.

    One line each, with the mend for what fails.
    """
    settings = settings_from(write_back=write_back, run_store=run_store, redis_url=redis_url)
    spec = _spec(source, all_versions=all_versions)
    if policies:
        _print_policies(settings, spec)
        return
    checks = _check(settings, spec, may_pay=_may_pay(settings, said=pay))
    failed = [check for check in checks if not check.passed]
    if as_json:
        _print_json({"checks": [check.to_json() for check in checks], "failed": len(failed)})
    else:
        for check in checks:
            typer.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.found}")
    raise typer.Exit(ExitCode.FAILED_IMAGES if failed else ExitCode.DONE)


def _spec(source: str | None, *, all_versions: bool) -> SourceSpec | None:
    from tagmill.producer.sources.options import SourceOptions  # noqa: PLC0415 - `--help` need not pay for it
    from tagmill.producer.sources.spec import parse_source  # noqa: PLC0415 - as above

    return parse_source(source, SourceOptions(all_versions=all_versions)) if source is not None else None


def _may_pay(settings: Settings, *, said: bool | None) -> bool:
    """Only a person, or a flag, may say so."""
    if not settings.has_credentials or said is not None:
        return bool(said)
    return sys.stdin.isatty() and typer.confirm("Make one real tags call, which is paid for?", err=True)


def _check(settings: Settings, spec: SourceSpec | None, *, may_pay: bool) -> list[Check]:
    from tagmill.producer.doctor.fleet import check_redis, check_run_store  # noqa: PLC0415 - as above
    from tagmill.worker.s3 import store_client  # noqa: PLC0415 - as above

    checks = check_redis(settings.redis_url)
    if all(check.passed for check in checks):
        checks += _check_fleet(settings)
    checks.append(check_run_store(settings.run_store, lambda: store_client(settings.s3_endpoint_url)))
    in_bucket, key = _check_bucket(settings, spec)
    return [*checks, *in_bucket, *_check_service(settings, may_pay=may_pay, key=key)]


def _check_fleet(settings: Settings) -> list[Check]:
    from tagmill.producer.doctor.fleet import check_fleet, check_schedules  # noqa: PLC0415 - as above
    from tagmill.producer.reach import open_board  # noqa: PLC0415 - as above
    from tagmill.producer.schedules.schedule import schedules_of  # noqa: PLC0415 - as above

    board = open_board(settings, settings.redis_url) if settings.redis_url is not None else None
    checks = check_fleet(board) if board is not None else []
    return [*checks, check_schedules(board, lambda: schedules_of(settings))] if settings.schedule else checks


def _check_bucket(settings: Settings, spec: SourceSpec | None) -> tuple[list[Check], str | None]:
    """Return what was found, and the key of an image for the storage alias."""
    from tagmill.producer.doctor.bucket import BucketCheckup  # noqa: PLC0415 - as above
    from tagmill.producer.sources.s3_client import listing_client  # noqa: PLC0415 - as above

    place = _place(spec)
    if place is None:
        return [], None
    client, all_versions = listing_client(settings.s3_endpoint_url), spec is not None and spec.all_versions
    checkup = BucketCheckup(client, *place, all_versions=all_versions)
    return checkup.run(_sinks(settings, spec)), checkup.first_key


def _check_service(settings: Settings, *, may_pay: bool, key: str | None) -> list[Check]:
    from tagmill.worker.check import Check  # noqa: PLC0415 - as above

    if not settings.has_credentials:
        mend = "set TAGMILL_FILESTACK_API_KEY and TAGMILL_FILESTACK_APP_SECRET"
        return [Check("filestack credentials", passed=False, found=f"none are set; {mend}")]
    from tagmill.worker.checkup import check_filestack  # noqa: PLC0415 - as above

    return asyncio.run(check_filestack(settings, may_pay=may_pay, key=key))


def _print_policies(settings: Settings, spec: SourceSpec | None) -> None:
    from tagmill.producer.doctor.permissions import filestack_calls, iam_policy  # noqa: PLC0415 - as above
    from tagmill.producer.sources.spec import Kind  # noqa: PLC0415 - as above

    kind = spec.kind if spec else None
    uploads = settings.transfer == "upload" or kind is Kind.FOLDER
    stored, all_versions = _store_place(settings.run_store), spec is not None and spec.all_versions
    iam = iam_policy(_place(spec), _sinks(settings, spec), stored, all_versions=all_versions)
    calls = filestack_calls(uploads=uploads, handles=settings.filestack_buckets is not None)
    _print_json({"iam": iam, "filestack": {"call": calls}})


def _store_place(run_store: str) -> tuple[str, str] | None:
    if not run_store.startswith("s3://"):
        return None
    bucket, _, prefix = run_store.removeprefix("s3://").partition("/")
    return bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""


def _sinks(settings: Settings, spec: SourceSpec | None) -> tuple[str, ...]:
    from tagmill.producer.preparation import FILESTACK, choose_write_back  # noqa: PLC0415 - as above

    return choose_write_back(settings, spec.kind, FILESTACK) if spec is not None else ()


def _place(spec: SourceSpec | None) -> tuple[str, str] | None:
    from tagmill.producer.sources.spec import Kind  # noqa: PLC0415 - as above

    listed = spec is not None and spec.kind is Kind.S3 and spec.input is None
    return (spec.bucket, spec.prefix) if spec is not None and listed else None


def _print_json(value: dict[str, object]) -> None:
    from tagmill.producer.report import print_json  # noqa: PLC0415 - as above
    from tagmill.worker.models import SCHEMA  # noqa: PLC0415 - as above

    print_json({"schema": SCHEMA, **value})
