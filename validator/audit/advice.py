"""What to tell a person when an endpoint cannot be audited at all: what is wrong, and what to do about it."""

from scoring.errors import InvalidInput, OracleError, Unavailable
from validator.audit.endpoint import Failure
from validator.fetch import FailureReason

FATAL_STATUSES = frozenset({401, 402, 403, 404})
FATAL_REASONS = frozenset(
    {FailureReason.RESOLVE, FailureReason.CONNECT, FailureReason.REDIRECT, FailureReason.ENDPOINT}
)
MAY_PASS_STATUSES = frozenset({408, 425, 429})
"""Refusals that say nothing against the request."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "record layer failure")
"""How OpenSSL says that the other side does not speak TLS."""


def is_fatal(failure: Failure) -> bool:
    """Say whether asking again is pointless."""
    return failure.reason in FATAL_REASONS or failure.status in FATAL_STATUSES


def explain_failure(failure: Failure, base_url: str, key_variable: str | None) -> OracleError:
    """Return the error that says what to do: InvalidInput when the command was wrong, else Unavailable."""
    said = f"{base_url}: {failure.detail}"
    if failure.reason is FailureReason.RESOLVE:
        return Unavailable(f"{said}; check the spelling of --endpoint")
    if failure.reason is FailureReason.CONNECT:
        return _explain_connection(failure, base_url)
    if failure.reason is FailureReason.REDIRECT:
        return InvalidInput(f"{said}; redirects are not followed: give the final URL as --endpoint")
    if failure.reason in (FailureReason.CONTENT_TYPE, FailureReason.PROTOCOL):
        return InvalidInput(
            f"this does not look like an OpenAI-compatible API: {said}; is the path right? "
            "--endpoint ends where /v1 begins"
        )
    if failure.reason is FailureReason.DISCONNECTED:
        return Unavailable(
            f"{said}; if it stays so, this is no OpenAI-compatible API: are scheme and port of --endpoint right?"
        )
    return _explain_status(failure, said, key_variable)


def _explain_connection(failure: Failure, base_url: str) -> OracleError:
    said = f"{base_url}: {failure.detail}"
    if base_url.startswith("https://") and any(mark in failure.detail for mark in _NO_TLS):
        return InvalidInput(f"{said}; no TLS is spoken there: try http://{base_url.removeprefix('https://')}")
    return Unavailable(f"cannot connect to {said}; is the server running, and on this port?")


def _explain_status(failure: Failure, said: str, key_variable: str | None) -> OracleError:
    status, wait_s = failure.status or 0, failure.retry_after_s
    if status in (401, 403):
        return InvalidInput(f"{said}; {_explain_key(key_variable)}")
    if status == 402:
        return Unavailable(f"{said}; the account has to pay first")
    if status == 404:
        return InvalidInput(f"{said}; no such model or route: see --served-model, and --endpoint ends where /v1 begins")
    if 400 <= status < 500 and status not in MAY_PASS_STATUSES:
        return InvalidInput(f"the endpoint refuses this request: {said}")
    when = f"in {wait_s:,.0f} s" if wait_s else "later"
    if status == 429:
        return Unavailable(f"{said}; the endpoint is limiting you: try again {when}, or with a smaller --concurrency")
    return Unavailable(f"{said}; try again {when}")


def _explain_key(key_variable: str | None) -> str:
    if key_variable is None:
        return "put your key into an environment variable and name it with --api-key-env"
    return f"the key in ${key_variable} is refused"
