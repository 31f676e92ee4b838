"""What to tell a person when an endpoint cannot be audited at all: what is wrong, and what to do about it."""

from scoring.errors import InvalidInput, OracleError, Unavailable
from validator.audit.endpoint import Failure
from validator.fetch import FailureReason

FATAL_STATUSES = frozenset({401, 402, 403, 404})
FATAL_REASONS = frozenset(
    {FailureReason.RESOLVE, FailureReason.CONNECT, FailureReason.REDIRECT, FailureReason.ENDPOINT}
)


def is_fatal(failure: Failure) -> bool:
    """Say whether asking again is pointless."""
    return failure.reason in FATAL_REASONS or failure.status in FATAL_STATUSES


def explain_failure(failure: Failure, base_url: str, key_variable: str | None) -> OracleError:
    """Return the error that says what to do: InvalidInput when the command was wrong, else Unavailable."""
    said = f"{base_url}: {failure.detail}"
    if failure.reason is FailureReason.RESOLVE:
        return Unavailable(f"{said}; check the spelling of --endpoint")
    if failure.reason is FailureReason.CONNECT:
        return Unavailable(f"cannot connect to {said}; is the server running, and on this port?")
    if failure.reason is FailureReason.REDIRECT:
        return InvalidInput(f"{said}; redirects are not followed: give the final URL as --endpoint")
    if failure.reason is FailureReason.CONTENT_TYPE:
        return InvalidInput(f"{said}; is this the API, and not its web page? --endpoint ends where /v1 begins")
    if failure.status in (401, 403):
        return InvalidInput(f"{said}; {_explain_key(key_variable)}")
    if failure.status == 402:
        return Unavailable(f"{said}; the account has to pay first")
    if failure.status == 404:
        return InvalidInput(f"{said}; no such model or route: see --served-model, and --endpoint ends where /v1 begins")
    if failure.status == 429:
        wait = "later" if not failure.retry_after_s else f"in {failure.retry_after_s:.0f} s"
        return Unavailable(f"{said}; the endpoint is limiting you: try again {wait}, or with a smaller --concurrency")
    return Unavailable(f"{said}; try again later")


def _explain_key(key_variable: str | None) -> str:
    if key_variable is None:
        return "put your key into an environment variable and name it with --api-key-env"
    return f"the key in ${key_variable} is refused"
