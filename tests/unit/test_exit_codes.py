"""Each expected failure has its published exit code."""

from __future__ import annotations

import pytest

from tagmill.producer.exit_codes import PAUSE_REASONS, ExitCode, exit_code
from tagmill.worker import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError, 2),
        (errors.NotFoundError, 3),
        (errors.RunError, 5),
        (errors.RedisUnavailableError, 5),
        (errors.RunStoreUnavailableError, 5),
        (errors.EngineOutageError, 5),
        (errors.EngineUnavailableError, 5),
        (errors.WriteBackSafetyError, 6),
        (errors.CredentialsError, 7),
        (errors.QuotaExhaustedError, 7),
        (errors.BudgetExhaustedError, 8),
        (errors.FailureRateError, 11),
    ],
)
def test_an_error_has_its_exit_code(error: type[errors.TaggingError], code: int) -> None:
    assert exit_code(error("text")) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CredentialsError, ExitCode.CREDENTIALS),
        (errors.QuotaExhaustedError, ExitCode.CREDENTIALS),
        (errors.BudgetExhaustedError, ExitCode.BUDGET),
        (errors.FailureRateError, ExitCode.FAILURE_RATE),
        (errors.EngineOutageError, ExitCode.TEMPORARY),
        (errors.WriteBackSafetyError, ExitCode.WRITE_BACK_SAFETY),
        (errors.RunStoreUnavailableError, ExitCode.TEMPORARY),
    ],
)
def test_a_run_paused_by_an_error_ends_with_the_same_code(
    error: type[errors.RunError], code: ExitCode
) -> None:
    assert PAUSE_REASONS[error.code] is code
    assert exit_code(error("text")) is code
