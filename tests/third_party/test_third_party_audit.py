"""`quiver audit` against llama.cpp: the same weights on an engine with kernels, cache and sampler that are not ours."""

import pytest

pytest.importorskip("xllamacpp")

from audit_process import LIMIT_S, audit

from benchmarks.third_party import start_third_party_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 100)]


def test_an_honest_engine_that_is_not_ours_is_not_accused_for_what_it_filters_by_default(tmp_path):
    """The stricter claim: whatever it does not prove, that of weights alone does not either."""
    claim = ("--claim", "weights+sampling")
    with start_third_party_server(slots=2, is_plain=False) as server:
        code, result = audit(tmp_path, "--endpoint", server.base_url, "--max-requests", 16, *claim)
    assert result["verdict"] in ("consistent", "uninformative")
    assert code in (0, 3)
    assert set(result["channels"]) >= {"text", "logprobs", "greedy"}
    assert all(channel["log10_e"] < 2 for channel in result["channels"].values())
