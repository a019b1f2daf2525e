"""Who may do what: keys and policies, and how each API says no."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping

from starlette.requests import Request

from tagmill.sandbox.config import SandboxConfig
from tagmill.sandbox.policies import UNRESTRICTED, Policy, PolicyError, verify
from tagmill.sandbox.replies import Refusal, Reply, invalid_application, text_reply, traced_reply
from tagmill.sandbox.urls import WORKFLOW_TASKS, Address, AliasSource, HandleSource, UrlSource

#: Any one of these in a policy's `call` is enough.
CONVERT = ("convert",)
READ = ("read",)
STAT = ("stat",)
RUN_WORKFLOW = ("runWorkflow",)
STORE = ("store", "pick")
STORE_URL = ("store", "pick", "writeUrl")
WRITE = ("write",)
REMOVE = ("remove", "revoke")


def permit_task(config: SandboxConfig, address: Address, now: float) -> Policy:
    """The processing edge refuses in plain text. Raise Refusal."""
    key_needed = isinstance(address.source, AliasSource | UrlSource)
    if address.api_key not in ({config.api_key} if key_needed else {config.api_key, None}):
        raise Refusal(invalid_application())
    try:
        policy = verify(config.app_secret, address.policy, address.signature, now)
        _check_calls(policy, CONVERT)
        if address.tasks[-1].name in WORKFLOW_TASKS:
            _check_calls(policy, RUN_WORKFLOW)
        _check_source(policy, address)
    except PolicyError as error:
        raise Refusal(_in_text(error)) from error
    return policy


def permit_delivery(config: SandboxConfig, address: Address, query: Mapping[str, str], now: float) -> None:
    """A policy stands in the path, as for a task, or in the query."""
    encoded = address.policy or query.get("policy")
    signature = address.signature or query.get("signature")
    try:
        policy = verify(config.app_secret, encoded, signature, now)
        _check_calls(policy, READ)
        _check_source(policy, address)
    except PolicyError as error:
        raise Refusal(_in_text(error)) from error


def permit_file(config: SandboxConfig, request: Request, calls: tuple[str, ...], now: float) -> None:
    """The File API for an existing handle refuses with 401."""
    try:
        policy = _policy_of(config, request, now)
        _check_calls(policy, calls)
        _check_handle(policy, request.path_params["handle"])
    except PolicyError as error:
        raise Refusal(traced_reply(401, "Invalid Policy")) from error


def permit_upload(config: SandboxConfig, request: Request, calls: tuple[str, ...], now: float) -> Policy:
    """The upload API refuses a policy with 403, a wrong key with 200 and a text (filestack-python#71)."""
    if request.query_params.get("key") != config.api_key:
        raise Refusal(text_reply(200, "Invalid Application"))
    try:
        policy = _policy_of(config, request, now)
        _check_calls(policy, calls)
    except PolicyError as error:
        raise Refusal(traced_reply(403, "Invalid App policy")) from error
    return policy


def _policy_of(config: SandboxConfig, request: Request, now: float) -> Policy:
    """From the query, or everything for HTTP basic `app:<secret>`: https://www.filestack.com/docs/api/file/."""
    if _knows_secret(request.headers.get("authorization", ""), config.app_secret):
        return UNRESTRICTED
    query = request.query_params
    return verify(config.app_secret, query.get("policy"), query.get("signature"), now)


def _knows_secret(header: str, secret: str) -> bool:
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = base64.b64decode(credentials, validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(given, f"app:{secret}".encode())


def _check_calls(policy: Policy, calls: tuple[str, ...]) -> None:
    if not policy.allows(*calls):
        raise PolicyError(f"policy does not allow {calls[0]}")


def _check_handle(policy: Policy, handle: str | None) -> None:
    if policy.handle not in {None, handle}:
        raise PolicyError("policy is for another handle")


def _check_source(policy: Policy, address: Address) -> None:
    source = address.source
    _check_handle(policy, source.handle if isinstance(source, HandleSource) else None)
    if isinstance(source, UrlSource) and not policy.allows_url(source.url):
        raise PolicyError("policy does not allow this url")


def _in_text(error: PolicyError) -> Reply:
    """400 when security is missing or unreadable, 403 when it does not permit: the JavaScript error guide."""
    return text_reply(400 if error.malformed else 403, str(error))
