"""`quiver audit` against real provider processes: cheats are proven, honest ones are not, settings are told."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SERVER = "validator.provider.server"


def audit(folder, *arguments: object) -> tuple[int, dict]:
    """Run an audit in its own process and return its exit code and result."""
    result = folder / "result.json"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "quiver_oracle", "audit", "--model", "bundled", "--json", str(result)]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=500,
        check=False,
    )
    assert result.exists(), done.stderr[-2000:]
    return done.returncode, json.loads(result.read_text())


@pytest.fixture(scope="module")
def int4(launch, tmp_path_factory):
    """The audit of a provider that serves 4-bit weights, with what it kept."""
    folder = tmp_path_factory.mktemp("int4")
    running = launch(SERVER, cheats=["int4"])
    code, result = audit(
        folder, "--endpoint", running.url, "--html", folder / "r.html", "--save-transcript", folder / "t.jsonl"
    )
    running.stop()
    return folder, code, result


def test_four_bit_weights_are_proven_and_named(int4) -> None:
    _, code, result = int4
    assert (code, result["verdict"]) == (1, "proven")
    assert result["log10_e"] >= 6
    assert result["explanation"] == "int4 weights"
    assert result["requests"] <= 12
    assert "honest requests" in result["calibration"]


def test_a_stranger_proves_it_again_from_the_transcript(int4) -> None:
    folder, _, _ = int4
    code, result = audit(folder, "--transcript", folder / "t.jsonl")
    assert (code, result["verdict"]) == (1, "proven")


def test_the_report_shows_it(int4) -> None:
    page = (int4[0] / "r.html").read_text()
    assert "<svg" in page
    assert "int4 weights" in page


def test_an_honest_provider_is_not_accused(provider, tmp_path) -> None:
    code, result = audit(tmp_path, "--endpoint", provider.url, "--max-requests", 10)
    assert result["verdict"] in ("consistent", "uninformative")
    assert code in (0, 3)
    assert result["log10_e"] < 3


def test_another_temperature_is_told_and_not_proven_of_the_weights(launch, tmp_path) -> None:
    running = launch(SERVER, cheats=["temperature=1.4"])
    code, result = audit(tmp_path, "--endpoint", running.url, "--max-requests", 12)
    running.stop()
    assert (code, result["verdict"]) == (3, "suspect")
    assert result["explanation"] == "temperature near 1.4"
