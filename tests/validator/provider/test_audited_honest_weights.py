"""`quiver audit` against real provider processes with the claimed weights: honest, and with other sampling, told."""

import pytest
from audit_process import LIMIT_S, audit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 100)]

SERVER = "validator.provider.server"


def test_an_honest_provider_is_not_accused_whatever_it_sends(launch, tmp_path) -> None:
    running = launch(SERVER, toploc=True)
    code, result = audit(tmp_path, "--endpoint", running.url, "--max-requests", 6)
    running.stop()
    assert result["verdict"] in ("consistent", "uninformative")
    assert code in (0, 3)
    assert result["log10_e"] < 3
    assert set(result["channels"]) >= {"seeded", "text", "logprobs", "activations"}


def test_another_temperature_is_told_and_not_proven_of_the_weights(launch, tmp_path) -> None:
    running = launch(SERVER, cheats=["temperature=1.4"])
    code, result = audit(tmp_path, "--endpoint", running.url, "--max-requests", 5)
    running.stop()
    assert (code, result["verdict"]) == (3, "suspect")
    assert result["explanation"] == "temperature near 1.4"
