"""`quiver audit` against llama.cpp: the same weights on an engine with kernels, cache and sampler that are not ours."""

import pytest

pytest.importorskip("xllamacpp")

from audit_process import LIMIT_S, audit

from benchmarks.third_party import start_third_party_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 100)]


def test_an_honest_engine_that_is_not_ours_is_not_accused(tmp_path):
    with start_third_party_server(slots=2) as server:
        code, result = audit(tmp_path, "--endpoint", server.base_url, "--max-requests", 8)
    assert result["verdict"] in ("consistent", "uninformative")
    assert code in (0, 3)
    assert set(result["channels"]) >= {"text", "logprobs", "greedy"}
    assert all(channel["log10_e"] < 2 for channel in result["channels"].values())


def test_a_server_that_filters_by_default_is_asked_not_to_and_not_accused(tmp_path):
    with start_third_party_server(slots=2, is_plain=False) as server:
        code, result = audit(
            tmp_path, "--endpoint", server.base_url, "--max-requests", 24, "--claim", "weights+sampling"
        )
    assert result["verdict"] in ("consistent", "uninformative")
    assert code in (0, 3)
