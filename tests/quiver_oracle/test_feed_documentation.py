"""The examples of docs/feed.md run as they are printed, and its numbers are those of the code."""

import re
import time
from pathlib import Path

import httpx
import pytest

from quiver_oracle import FeedClient, MockFeed, build_mock_item, build_mock_network
from scoring.feed import MAX_CLOCK_SKEW_S, MAX_FEED_PROOF_BYTES
from scoring.merkle import MAX_PROOF_LENGTH
from scoring.parameters import HALF_LIFE_DAYS, TrustParameters

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "feed.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_reading_example_routes_to_a_good_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = build_mock_network()
    feed = MockFeed(network)
    (tmp_path / "validators.json").write_bytes(network.validator_set_file.encode())
    monkeypatch.chdir(tmp_path)
    original = FeedClient.__init__
    monkeypatch.setattr(FeedClient, "__init__", lambda *a, **k: original(*a, transport=feed.transport, **k))
    exec(compile(EXAMPLES[0], "feed.md", "exec"), {})
    feed.publish([build_mock_item(b"\x0a" * 20, epoch=7, time_s=int(time.time()))])
    exec(compile(EXAMPLES[0], "feed.md", "exec"), {})
    refused, routed = capsys.readouterr().out.splitlines()
    assert refused.startswith("no score: https://relay.example/v1/feed/latest: answered with status 404")
    assert routed == "route to it"


def test_the_testing_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the example left the machine")

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", refuse)
    exec(compile(EXAMPLES[1], "feed.md", "exec"), {})
    assert len(EXAMPLES) == 2


def test_the_numbers_are_those_of_the_code() -> None:
    parameters = TrustParameters()
    assert [weight // 10_000 for weight in parameters.weights_ppm] == [40, 20, 10, 10, 10, 10]
    assert re.findall(r"\| (\d+) % \|", TEXT) == ["40", "20", "10", "10", "10", "10"]
    for sentence in (
        f"half-life of {HALF_LIFE_DAYS} days",
        f"minor {parameters.minor_cap}, major {parameters.major_cap}",
        f"fewer than {parameters.min_samples} effective samples",
        f"z = {parameters.z_milli / 1000}",
        f"z = {parameters.interval_z_milli / 1000}",
        f"over {parameters.agreement_tolerance_ppm // 10_000} %",
        f"at most {MAX_PROOF_LENGTH} steps",
        f"at most {MAX_CLOCK_SKEW_S} s in the future",
        f"at most {MAX_FEED_PROOF_BYTES // 2**20} MiB",
        f"within {parameters.fast_ttft_ms} ms",
    ):
        assert sentence in TEXT, sentence
