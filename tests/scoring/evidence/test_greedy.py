"""Temperature 0: no sampling of the claimed weights gives an answer more than the claim says it may have."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import InvalidInput
from scoring.evidence.channel_ids import GRID_POWERS, GRID_TOP_PS_PPM
from scoring.evidence.greedy import LARGEST_POWER, LEAST_TOKEN, compute_log_claim

POWERS = tuple(power / 20 for power in GRID_POWERS)
TOP_PS = tuple(top_p / 1e6 for top_p in GRID_TOP_PS_PPM)
LOGITS = st.lists(st.floats(-8, 8), min_size=5, max_size=5)


def compute_logprob(logits, token, power, top_p=1.0):
    """Return the exact log-probability under temperature 1/power and a top-p filter."""
    top = max(logits)
    weights = [math.exp(power * (value - top)) for value in logits]
    total, before = sum(weights), 0.0
    order = sorted(range(len(logits)), key=lambda place: -weights[place])
    kept = []
    for place in order:
        if before < top_p * total:
            kept.append(place)
        before += weights[place]
    if token not in kept:
        return -math.inf
    return power * (logits[token] - top) - math.log(sum(weights[place] for place in kept))


def build_grid(rows, tokens):
    return [
        [compute_logprob(logits, token, power, top_p) for power in POWERS for top_p in TOP_PS]
        for logits, token in zip(rows, tokens, strict=True)
    ]


def compute_claim(rows, tokens):
    margins = [max(logits) - logits[token] for logits, token in zip(rows, tokens, strict=True)]
    return compute_log_claim(margins, build_grid(rows, tokens), POWERS)


@given(st.lists(st.tuples(LOGITS, st.integers(0, 4)), min_size=1, max_size=4), st.integers(0, 52), st.booleans())
def test_no_temperature_gives_an_answer_more_than_the_claim(tokens, step, is_filtered):
    power = min(POWERS[0] * 1.1**step, LARGEST_POWER)
    rows, chosen = [logits for logits, _ in tokens], [token for _, token in tokens]
    top_p = 0.9 if is_filtered else 1.0
    exact = sum(compute_logprob(logits, token, power, top_p) for logits, token in tokens)
    assert compute_claim(rows, chosen) >= exact - 1e-6


def test_the_greedy_answer_is_certain_at_last():
    assert compute_claim([[5.0, 1.0, 0.0, 0.0, 0.0]] * 8, [0] * 8) == pytest.approx(0.0, abs=1e-3)


def test_an_answer_of_other_tokens_is_as_likely_as_the_temperature_that_fits_it_best():
    # One token in eight a whole logit below the winner: neither a low nor a high temperature explains all of it.
    rows, tokens = [[5.0, 4.0, -3.0, -3.0, -3.0]] * 8, [0] * 7 + [1]
    assert -4.0 < compute_claim(rows, tokens) < -1.0


def test_one_wild_token_is_not_certainty():
    rows = [[30.0, -30.0, 0.0, 0.0, 0.0]]
    assert compute_claim(rows, [1]) >= LEAST_TOKEN


def test_no_tokens_are_certain():
    assert compute_log_claim((), (), POWERS) == 0.0


@pytest.mark.parametrize("grid", [[], [[0.0] * 20]], ids=["too few rows", "a row of another grid"])
def test_refuses(grid):
    with pytest.raises(InvalidInput, match="each token"):
        compute_log_claim((0.1,), grid, POWERS)
