"""Endpoints that ask to wait: it is shown, and one that asks for too long ends the audit, which can go on later."""

import io

import pytest
from audit_fakes import FakeEndpoint, refuse

from scoring.errors import Unavailable
from validator.audit import asker, command
from validator.audit.asker import Asker
from validator.audit.command import run_audit
from validator.audit.endpoint import Endpoint, Failure
from validator.audit.http_exchange import AskLimits
from validator.audit.journal import read_journal
from validator.audit.options import AuditOptions
from validator.audit.screen import PlainScreen

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
LIMITS = AskLimits(max_tokens=8)


def throttle_after(fake: FakeEndpoint, count: int, wait_s: str, times: int = 1) -> None:
    """Let an endpoint answer so many requests and then ask to wait."""
    fake.failures = [refuse(429, "slow down", **{"Retry-After": wait_s}) for _ in range(times)]
    fake.fails_after = count


@pytest.mark.parametrize("status", [429, 503])
async def test_who_asks_for_an_hour_is_not_asked_again(served, status) -> None:
    served.fake.failures = [refuse(status, "slow down", **{"Retry-After": "3600"})]
    async with Endpoint(served.url) as endpoint:
        found = await Asker(endpoint).ask(BODY, LIMITS)
    assert isinstance(found, Failure) and found.is_long_wait
    assert (found.retry_after_s, len(served.fake.asked)) == (3600.0, 1)


async def test_a_wait_is_told_once_for_all_requests(served) -> None:
    notes: list[str] = []
    async with Endpoint(served.url) as endpoint:
        own = Asker(endpoint, notes.append)
        for wait_s in (30.0, 30.0, 2.0, 60.0):
            own._hold(wait_s)
    assert notes == ["the endpoint asks to wait 30 s", "the endpoint asks to wait 60 s"]


def test_a_wait_during_the_first_look_is_shown(run, served, monkeypatch) -> None:
    monkeypatch.setattr(asker, "NOTED_WAIT_S", 0.1)
    throttle_after(served.fake, 2, "0.6")
    run(max_requests=2)
    assert "the endpoint asks to wait 1 s" in run.screen


def test_a_first_look_that_is_told_to_wait_an_hour_ends_with_the_true_wait(run, served, tmp_path) -> None:
    throttle_after(served.fake, 2, "3600")
    with pytest.raises(Unavailable, match="try again in 3,600 s"):
        run()
    assert len(served.fake.asked) == 3
    assert not list(tmp_path.iterdir())


def test_an_audit_that_is_told_to_wait_an_hour_ends_and_goes_on_later(run, served, tmp_path) -> None:
    throttle_after(served.fake, 12, "3600", times=8)
    code, result = run(max_requests=20)
    assert (code, result["verdict"], result["ended"]) == (3, "consistent", "throttled")
    assert result["ended_because"] == "the endpoint asks to wait 3,600 s"
    journal = tmp_path / "result.json.journal.jsonl"
    assert f"the endpoint asks to wait 3,600 s; --resume goes on from {journal}" in run.screen
    kept = read_journal(journal)
    # What was not answered is neither missing nor finished.
    assert kept is not None and kept.finished is None
    assert (result["requests_missing"], len(kept.entries)) == (0, result["requests_asked"])
    served.fake.failures.clear()
    code, result = run(max_requests=20, is_resumed=True)
    assert (code, result["requests"], result["requests_missing"]) == (0, 20, 0)


def test_a_lie_that_was_proven_before_the_wait_stays_proven(run, served) -> None:
    served.fake.share_of_lies = 1.0
    throttle_after(served.fake, 14, "3600", times=30)
    code, result = run(concurrency=1)
    assert (code, result["verdict"]) == (1, "proven")


def test_the_line_says_that_the_audit_waits(served, opener, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(command, "open_screen", lambda stream: PlainScreen(stream, every_s=0.0))
    throttle_after(served.fake, 9, "2.9")
    screen = io.StringIO()
    options = AuditOptions(model="bundled", endpoint=served.url, json_path=tmp_path / "r.json", max_requests=6)
    assert run_audit(options, opener.instruments, screen) == 0
    assert "waiting 2 s, as the endpoint asks" in screen.getvalue()
