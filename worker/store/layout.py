"""Every name in a run store, in one place. Zero-padded, so that name order is plan order."""

from __future__ import annotations

RUNS = "runs"
ACCOUNTS = "accounts"
WEBHOOKS = "webhooks"
STATES = "state"
SCHEDULES = "schedules"
SUCCESS = "_SUCCESS"  #: in a pass's folder: its manifest is whole


def run_folder(run_id: str) -> str:
    return f"{RUNS}/{run_id}"


def account_folder(account: str) -> str:
    return f"{ACCOUNTS}/{account}"


def webhooks_folder(part: str) -> str:
    """Folder of a part, such as `received`."""
    return f"{WEBHOOKS}/{part}"


def pass_folder(run_id: str, pass_no: int) -> str:
    return f"{run_folder(run_id)}/passes/{pass_no:04d}"


def state_folder(source: str, number: int) -> str:
    return f"{STATES}/{source}/{number:08d}"


def schedule_folder(name: str, part: str) -> str:
    """Folder of a part, such as `starts`."""
    return f"{SCHEDULES}/{name}/{part}"


def shard_name(shard: int) -> str:
    return f"{shard:08d}"
