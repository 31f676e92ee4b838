"""Peers on made-up columns: honest ones pass at the stated rate, damaged ones fail, by the published settings."""

import numpy as np
import pytest

from benchmarks.peer_mmd import (
    build_kernels,
    build_mmd_judge,
    compute_p_value,
    compute_statistics,
    draw_prompt_trials,
    encode_characters,
)
from benchmarks.peers import (
    PEERS,
    RequestColumns,
    build_columns,
    build_difr_judge,
    build_rank_judge,
    build_uniformity_judge,
    compute_difr_clip,
    compute_log_rank,
    compute_places,
    draw_trials,
    is_answer_failed,
    measure,
)
from models.requests import GRID, TokenStatistics
from scoring.errors import InvalidInput

GENERATOR = np.random.default_rng(7)


def make_columns(ranks, margin=None, returned=None, logprob=None, is_ended=False):
    count = len(ranks)
    return RequestColumns(
        ids=np.arange(count),
        rank=np.asarray(ranks),
        logprob=np.full(count, -1.0) if logprob is None else np.asarray(logprob),
        pit_low=np.zeros(count),
        pit_high=np.ones(count),
        margin=None if margin is None else np.asarray(margin),
        returned_logprob=None if returned is None else np.asarray(returned),
        is_ended=is_ended,
    )


def make_margins(count, share, size=64):
    """Return answers whose margin is above 0 with probability `share`."""
    return [
        make_columns(np.zeros(size, int), margin=GENERATOR.exponential(0.3, size) * (GENERATOR.random(size) < share))
        for _ in range(count)
    ]


def make_texts(prompts, samples, letters):
    return [["".join(GENERATOR.choice(list(letters), 20)) for _ in range(samples)] for _ in range(prompts)]


@pytest.mark.parametrize("requests", [1, 10])
def test_token_difr_keeps_its_false_positive_rate_and_sees_a_cheat(requests):
    calibration, honest, cheated = make_margins(400, 0.03), make_margins(400, 0.03), make_margins(200, 0.4)
    judges = [build_difr_judge(calibration, pool, requests) for pool in (cheated, honest)]
    result = measure(
        "difr",
        cheated=(judges[0], draw_trials(200, requests, 1000, 1)),
        honest=(judges[1], draw_trials(400, requests, 1000, 2)),
        lengths=np.full(200, 64),
    )
    assert result.power == 1.0
    assert result.false_alarms < 0.05
    assert (result.tokens, result.trials) == (64.0 * requests, 1000)


def test_token_difr_counts_an_infinite_margin_as_its_clip():
    calibration = [make_columns([0, 0], margin=[0.0, value]) for value in np.linspace(0, 0.9, 200)]
    pool = [make_columns([0, 0], margin=[0.0, np.inf]), make_columns([0, 0], margin=[0.5, 0.5])]
    assert build_difr_judge(calibration, pool, 1)(np.array([[0], [1]])).tolist() == [False, True]


def test_the_clip_of_the_charts_is_a_percentile_of_finite_honest_margins():
    honest = [make_columns([0, 0], margin=[value / 1000, np.inf]) for value in range(1001)]
    assert compute_difr_clip(honest) == pytest.approx(0.999)


def test_token_difr_refuses_answers_without_a_margin():
    with pytest.raises(InvalidInput):
        build_difr_judge([make_columns([0])], [make_columns([0])], 1)


def test_log_rank_counts_ranks_from_one():
    assert compute_log_rank(make_columns([0, 0])) == 0.0
    assert compute_log_rank(make_columns([0, 6])) == pytest.approx(np.log(7) / 2)


@pytest.mark.parametrize("local", [5, 100])
def test_places_of_honest_answers_are_uniform_even_with_many_ties(local):
    scores = GENERATOR.integers(0, 3, 4000).astype(float)
    places = compute_places(scores, GENERATOR.integers(0, 3, (4000, local)).astype(float))
    assert np.histogram(places, bins=10, range=(0, 1))[0] / 400 == pytest.approx(np.ones(10), abs=0.25)


def test_rank_uniformity_keeps_its_alpha_and_sees_a_shift():
    honest = compute_places(GENERATOR.normal(size=500), GENERATOR.normal(size=(500, 100)))
    shifted = compute_places(GENERATOR.normal(0.8, size=500), GENERATOR.normal(size=(500, 100)))
    trials = draw_trials(500, 30, 400, 3)
    assert build_uniformity_judge(honest)(trials).mean() < 0.12
    assert build_uniformity_judge(shifted)(trials).mean() > 0.9


def test_rank_uniformity_never_rejects_a_single_answer():
    assert not build_uniformity_judge(np.array([0.001]))(np.zeros((3, 1), dtype=int)).any()


def test_rank_uniformity_rejects_by_the_p_value_of_each_trial():
    from scipy.stats import cramervonmises

    places = GENERATOR.beta(1.0, 1.5, size=200)
    trials = draw_trials(200, 12, 60, 4)
    expected = [cramervonmises(places[trial], "uniform").pvalue < 0.05 for trial in trials]
    assert 5 < sum(expected) < 55
    assert build_uniformity_judge(places)(trials).tolist() == expected


@pytest.mark.parametrize(
    ("name", "columns", "temperature", "is_failed"),
    [
        ("five bad tokens are borne", make_columns([69] * 5 + [0] * 59), 1.0, False),
        ("a sixth is not", make_columns([69] * 6 + [0] * 58), 1.0, True),
        ("a rank of 69 from 1 is good at temperature 1", make_columns([68] * 64), 1.0, False),
        ("and bad at temperature 0.5", make_columns([9] * 64), 0.5, True),
        ("an early end of rank 376", make_columns([0] * 9 + [375], is_ended=True), 1.0, True),
        ("an early end of rank 375", make_columns([0] * 9 + [374], is_ended=True), 1.0, False),
        ("an end in its place is any token", make_columns([0] * 63 + [375], is_ended=True), 1.0, False),
        ("true log-probabilities", make_columns([0] * 9, returned=[-1.0] * 9), 1.0, False),
        ("false ones", make_columns([0] * 9, returned=[0.0] * 9), 1.0, True),
    ],
)
def test_the_subnet_rule(name, columns, temperature, is_failed):
    assert is_answer_failed(columns, temperature, 64, np.random.default_rng(1)) is is_failed


def test_the_subnet_rule_rejects_a_trial_for_one_failed_answer():
    pool = [make_columns([0] * 8), make_columns([200] * 8)]
    judge = build_rank_judge(pool, temperature=1.0, max_tokens=64)
    assert judge(np.array([[0, 0], [0, 1]])).tolist() == [False, True]


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(InvalidInput):
        make_columns([0, 0], margin=[0.0])


def test_columns_come_from_the_references_statistics():
    one = (0.5,)
    statistics = TokenStatistics(
        logprob=(-0.5,), raw_logprob=one, rank=(3,), entropy=one, pit_low=(0.1,), pit_high=(0.4,),
        grid_logprob=((0.0,) * len(GRID),), margin=None, gap=None,
    )  # fmt: skip
    columns = build_columns(statistics, [17])
    assert (columns.ids[0], columns.rank[0], columns.logprob[0], columns.margin) == (17, 3, -0.5, None)


def test_model_equality_keeps_its_alpha_and_sees_other_letters():
    reference = make_texts(12, 20, "abcd")
    trials = draw_prompt_trials(12, 4, 200, 5)
    honest = build_mmd_judge(build_kernels(reference, make_texts(12, 20, "abcd")), permutations=100)
    cheated = build_mmd_judge(build_kernels(reference, make_texts(12, 20, "abce")), permutations=100)
    assert honest(trials).mean() < 0.15
    assert cheated(trials).mean() == 1.0


def test_a_trial_names_no_prompt_twice():
    trials = draw_prompt_trials(9, 4, 300, 5)
    assert all(len(set(trial)) == 4 for trial in trials.tolist())
    assert set(trials.ravel()) == set(range(9))


@pytest.mark.parametrize(("reference", "tested"), [(9, 10), (10, 9)])
def test_model_equality_refuses_too_few_answers(reference, tested):
    with pytest.raises(InvalidInput):
        build_kernels(make_texts(2, reference, "ab"), make_texts(2, tested, "ab"))


@pytest.mark.slow
def test_the_statistic_is_that_of_the_published_package():
    package = pytest.importorskip("model_equality_testing")
    from model_equality_testing.algorithm import run_two_sample_test
    from model_equality_testing.distribution import CompletionSample

    reference, tested = make_texts(3, 10, "abc"), make_texts(3, 10, "abd")
    kernels = build_kernels(reference, tested)
    samples = [
        CompletionSample(
            prompts=np.repeat(np.arange(3), 10), completions=np.concatenate([encode_characters(t) for t in texts]), m=3
        )
        for texts in (reference, tested)
    ]
    published, statistic = run_two_sample_test(*samples, stat_type="mmd_hamming", b=200)
    assert package.tests.mmd_hamming(*samples) == statistic
    sides = np.tile(np.repeat([True, False], 10), 3)
    assert compute_statistics(kernels.kernels, sides[None])[0] == pytest.approx(statistic, abs=1e-12)
    ours = compute_p_value(kernels, np.arange(3), 2000, np.random.default_rng(2))
    assert ours == pytest.approx(published, abs=0.05)


def test_every_peer_says_what_was_chosen_here():
    assert len(PEERS) == 4
    assert all(peer.source and peer.published and peer.chosen_here for peer in PEERS)
