"""`quiver audit` against a real provider process that cheats with its weights: proven, named, shown, proven again."""

import pytest
from audit_process import LIMIT_S, audit
from fake_vllm import FakeVllm, serve_vllm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 100)]

SERVER = "validator.provider.server"


@pytest.fixture(scope="module")
def int4(launch, tmp_path_factory):
    """The audit of a provider that serves 4-bit weights, with what it kept."""
    folder = tmp_path_factory.mktemp("int4")
    running = launch(SERVER, cheats=["int4"], toploc=True)
    kept = ("--html", folder / "r.html", "--save-transcript", folder / "t.jsonl")
    code, result = audit(folder, "--endpoint", running.url, "--max-requests", 8, *kept)
    running.stop()
    return folder, code, result


def test_four_bit_weights_are_proven_and_named(int4) -> None:
    _, code, result = int4
    assert (code, result["verdict"]) == (1, "proven")
    assert result["log10_e"] >= 6
    assert result["explanation"] == "int4 weights"
    assert "honest requests" in result["calibration"]


def test_the_proofs_that_come_along_tell_it_too(int4) -> None:
    assert int4[2]["channels"]["activations"]["log10_e"] > 3


def test_a_stranger_proves_it_again_from_the_transcript(int4) -> None:
    folder, _, _ = int4
    code, result = audit(folder, "--transcript", folder / "t.jsonl")
    assert (code, result["verdict"]) == (1, "proven")


def test_a_server_that_has_the_claimed_weights_proves_it_too(int4) -> None:
    from models.packing import load_packed

    folder, _, _ = int4
    with serve_vllm(FakeVllm(load_packed("bundled"))) as url:
        # A server's seeds cannot be run again: log-probabilities are few here, and text proves under this claim alone.
        options = ("--claim", "weights+sampling", "--reference", url)
        code, result = audit(folder, "--transcript", folder / "t.jsonl", *options)
    assert (code, result["verdict"]) == (1, "proven")
    assert result["reference_cell"] == f"fake at {url}"


def test_the_report_shows_it(int4) -> None:
    page = (int4[0] / "r.html").read_text()
    assert "<svg" in page
    assert "int4 weights" in page
