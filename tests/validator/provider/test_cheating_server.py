"""Cheats that only show in a running server: two faces, failures."""

import httpx
import pytest

from validator.provider.cheats import parse_cheats
from validator.provider.misbehaviour import Failure, draw_failure

pytestmark = pytest.mark.slow

ASKED = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "Write one sentence about the sea."}],
    "max_tokens": 24,
    "seed": 3,
}
KNOWN, UNKNOWN = "0x" + "aa" * 20, "0x" + "bb" * 20


def ask(running, timeout_s: float = 60, **more) -> httpx.Response:
    return httpx.post(f"{running.url}/v1/chat/completions", json={**ASKED, **more}, timeout=timeout_s)


def test_a_two_faced_provider_is_honest_to_known_consumers_alone(launch, provider, tmp_path) -> None:
    (tmp_path / "known-consumers").write_text(KNOWN + "\n")
    running = launch("validator.provider.server", tmp_path, cheats=["two-faced"])
    honest = ask(provider).json()["choices"][0]["message"]["content"]
    assert ask(running, quiver_consumer=KNOWN).json()["choices"][0]["message"]["content"] == honest
    assert ask(running, quiver_consumer=UNKNOWN).json()["choices"][0]["message"]["content"] != honest
    assert "cheats_are_on" in (tmp_path / "log").read_text()
    running.stop()


def test_a_flaky_provider_fails_in_its_three_ways_and_ends_cleanly_while_it_hangs(launch) -> None:
    cheats = parse_cheats(["flaky=1"])
    nonces = {draw_failure(cheats, n.to_bytes(32, "big")): f"0x{n:064x}" for n in range(50)}
    running = launch("validator.provider.server", cheats=["flaky=1"])
    failed = ask(running, quiver_nonce=nonces[Failure.STATUS_500])
    assert (failed.status_code, failed.json()["error"]["type"]) == (500, "server_error")
    with pytest.raises(httpx.RemoteProtocolError):
        ask(running, quiver_nonce=nonces[Failure.DROPPED])
    with pytest.raises(httpx.ReadTimeout):
        ask(running, timeout_s=1, quiver_nonce=nonces[Failure.HANGING])
    assert running.stop() == 0


def test_an_unknown_cheat_ends_the_server_with_a_list(launch) -> None:
    with pytest.raises(RuntimeError, match="unknown cheat 'int3'; there are: int8"):
        launch("validator.provider.server", cheats=["int3"])
