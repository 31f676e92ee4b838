"""The statistics of an audit: what an answer without information gives, what a cheat gives, and what is refused."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.requests import GRID_POWERS, GRID_TOP_PS
from scoring.errors import InvalidInput
from scoring.evidence import channel_ids, channels
from scoring.evidence.channel_ids import (
    ACTIVATIONS_IDS,
    CAPS,
    CHANNEL_STATISTIC_IDS,
    GREEDY_IDS,
    GRID_IDS,
    LOGPROBS_IDS,
    OWN_NOISE_ID,
    SEEDED_IDS,
    TEXT_ANY_ID,
    WEIGHTS_ALTERNATIVES,
    build_seeded_id,
    build_text_id,
    find_ratio_cap,
    get_channel,
    list_greedy_ids,
    list_mixed_ids,
    list_statistics_of,
    list_text_ids,
)
from scoring.evidence.channels import (
    AnswerColumns,
    compute_channel_statistics,
    compute_log_ratios,
    mix_other_weights,
)
from scoring.evidence.other_weights import (
    OTHER_WEIGHTS_IDS,
    OTHER_WEIGHTS_VARIANTS,
    SKIPPED_LAYER,
    compute_other_logprobs,
)

SIBLING = channel_ids.build_sibling_name(bytes(32))
POINTS = len(GRID_IDS)


def build_answer(
    logprob=(-1.0,) * 8,
    grid=None,
    margin=None,
    gap=None,
    settings=None,
    returned=None,
    is_greedy=False,
    certain_tokens=None,
    entropy=None,
    second_run=None,
    activation_error=None,
    **alternatives,
):
    tokens = SimpleNamespace(
        logprob=logprob,
        grid_logprob=grid or tuple((value,) * POINTS for value in logprob),
        margin=margin,
        gap=gap,
    )
    answer = AnswerColumns(
        tokens=tokens,
        alternatives=alternatives,
        max_tokens=64,
        settings=settings,
        returned=returned,
        is_greedy=is_greedy,
        certain_tokens=certain_tokens,
        second_run=second_run,
        activation_error=activation_error,
    )
    return mix_other_weights(answer, entropy or (1.0,) * len(logprob))


def build_alternative(logprob, margin=None, gap=None):
    return SimpleNamespace(logprob=logprob, margin=margin, gap=gap)


def test_the_grid_is_that_of_the_engine():
    assert channel_ids.GRID_POWERS == GRID_POWERS
    assert tuple(top_p / 1_000_000 for top_p in channel_ids.GRID_TOP_PS_PPM) == GRID_TOP_PS


def test_every_statistic_has_one_id_and_a_channel():
    assert len(set(CHANNEL_STATISTIC_IDS)) == len(CHANNEL_STATISTIC_IDS)
    assert {get_channel(name) for name in CHANNEL_STATISTIC_IDS} == set(channel_ids.CHANNELS)


def test_an_answer_that_no_alternative_explains_better_gives_a_ratio_of_one():
    found = compute_channel_statistics(build_answer(int4=build_alternative((-1.0,) * 8)))
    for cap in CAPS:
        assert {found[build_text_id(name, cap)] for name in (*GRID_IDS, "int4")} == {1_000_000 // cap}


def test_an_empty_answer_says_nothing():
    empty = build_alternative((), (), ())
    found = compute_channel_statistics(
        build_answer(logprob=(), margin=(), gap=(), int8=empty, fp8=empty, int6=empty, int4=empty)
    )
    assert all(found[name] == 0 for name in found if not name.startswith("text-") or name == TEXT_ANY_ID)
    assert all(found[build_text_id(name, 100)] == 10_000 for name in GRID_IDS)


def test_a_seeded_statistic_needs_a_seed():
    assert not set(compute_channel_statistics(build_answer())) & set(SEEDED_IDS)


def test_seeded_statistics_belong_to_the_claimed_sampling_alone():
    answer = build_answer(margin=(0.3,) * 8, gap=(1.0,) * 8, settings=2)
    assert not set(compute_channel_statistics(answer)) & set(SEEDED_IDS)


def measure_own_noise(margin, gap, again_margin, again_gap):
    second = build_alternative((-1.0,) * len(margin), again_margin, again_gap)
    answer = build_answer(logprob=(-1.0,) * len(margin), margin=margin, gap=gap, second_run=second)
    return compute_channel_statistics(answer)[OWN_NOISE_ID]


def test_a_token_that_wins_in_one_of_two_numerics_has_no_margin_of_its_own():
    assert measure_own_noise((0.4,) * 32, (1.0,) * 32, (0.0,) * 32, (0.2,) * 32) == 0


def test_a_margin_counts_in_units_of_the_requests_own_noise():
    quiet = measure_own_noise((0.2,) * 32, (1.0,) * 32, (0.21,) * 32, (1.0,) * 32)
    noisy = measure_own_noise((0.2,) * 32, (1.0,) * 32, (1.2,) * 32, (1.0,) * 32)
    # With a noise of 1 a margin of 0.2 is a twentieth of four units, and a tenth of them counts in full.
    assert (quiet, noisy) == (1_000_000, 500_000)


def test_one_wild_token_is_not_the_noise_of_all():
    wild = measure_own_noise((0.2,) * 32, (1.0,) * 32, (99.0,) + (0.2,) * 31, (1.0,) * 32)
    # 1/32 at most, of which a margin of 0.2 is more than four units.
    assert wild == 1_000_000


def test_own_noise_needs_a_seed_and_a_second_run():
    assert OWN_NOISE_ID not in compute_channel_statistics(build_answer(margin=(0.3,) * 8, gap=(1.0,) * 8))
    unseeded = build_answer(second_run=build_alternative((-1.0,) * 8))
    assert OWN_NOISE_ID not in compute_channel_statistics(unseeded)


def test_tokens_that_no_filter_leaves_in_either_run_are_behind_and_no_noise():
    lost = measure_own_noise((math.inf,) * 32, (1.0,) * 32, (math.inf,) * 32, (1.0,) * 32)
    assert lost == 1_000_000


ERRORS = {0.0: [0, 0], 0.12: [0, 0], 0.16: [500_000, 0], 0.35: [1_000_000, 500_000], 1.0: [1_000_000, 1_000_000]}


@pytest.mark.parametrize(("error", "expected"), ERRORS.items(), ids=map(str, ERRORS))
def test_the_error_of_activation_proofs_counts_beyond_what_honest_numerics_cost(error, expected):
    found = compute_channel_statistics(build_answer(activation_error=error))
    assert [found[name] for name in ACTIVATIONS_IDS] == pytest.approx(expected, abs=2)


def test_an_answer_without_proofs_says_nothing_of_activations():
    assert not set(compute_channel_statistics(build_answer())) & set(ACTIVATIONS_IDS)


NOT_NUMBERS = {
    "a second run": {
        "margin": (0.3,),
        "gap": (1.0,),
        "logprob": (-1.0,),
        "second_run": build_alternative((-1.0,), (math.nan,), (1.0,)),
    },
    "an activation error": {"activation_error": math.nan},
}


@pytest.mark.parametrize("columns", NOT_NUMBERS.values(), ids=NOT_NUMBERS.keys())
def test_refuses_nan_in(columns):
    with pytest.raises(InvalidInput):
        compute_channel_statistics(build_answer(**columns))


def test_a_ratio_is_capped():
    found = compute_channel_statistics(build_answer(int4=build_alternative((0.0,) * 8)))
    assert {found[name] for name in list_text_ids(("int4",))} == {1_000_000}


def test_one_token_that_the_filter_removed_is_not_certainty():
    ratios = compute_log_ratios(build_answer(logprob=(-math.inf, -1.0), int4=build_alternative((-1.0, -1.0))))
    assert ratios["int4"] == pytest.approx(channels.REMOVED_LIMIT)


def test_one_wild_token_is_not_certainty():
    ratios = compute_log_ratios(build_answer(logprob=(-30.0, -1.0), int4=build_alternative((-1.0, -1.0))))
    assert ratios["int4"] == pytest.approx(channels.TOKEN_LIMIT)


def test_what_neither_could_have_said_is_no_evidence():
    ratios = compute_log_ratios(build_answer(logprob=(-math.inf,), int4=build_alternative((-math.inf,))))
    assert ratios["int4"] == 0.0


def test_an_alternative_that_could_not_have_said_it_is_excluded():
    found = compute_channel_statistics(build_answer(int4=build_alternative((-math.inf,) * 8)))
    assert {found[name] for name in list_text_ids(("int4",))} == {0}


def test_ratios_against_another_setting_are_taken_from_its_column():
    place = GRID_IDS.index("t91-p100")
    row = tuple(-0.5 if index == place else -1.0 for index in range(POINTS))
    ratios = compute_log_ratios(build_answer(grid=(row,) * 8, settings=place))
    assert "t91-p100" not in ratios
    assert ratios["t111-p100"] == pytest.approx(-4.0)


def build_row(hot, cold=-1.0):
    return tuple(hot if name in ("t111-p100", "t125-p100", "t143-p100") else cold for name in GRID_IDS)


def test_hot_tokens_where_the_claim_is_sure_speak_for_other_weights():
    # The same gain at every temperature above 1, at a sure and at an open position.
    sure, open_ = (
        compute_log_ratios(build_answer(grid=(build_row(-0.5),) * 8, entropy=(value,) * 8)) for value in (0.1, 6.0)
    )
    for name in OTHER_WEIGHTS_IDS[:2]:
        assert sure[name] > 1.4 * open_[name] > 0


def test_other_weights_need_the_variants_that_they_are_made_of():
    told = build_alternative((-0.5,) * 8)
    some = compute_log_ratios(build_answer(int6=told, int4=told))
    all_ = compute_log_ratios(build_answer(int6=told, int5=told, int4=told))
    assert all_.keys() - some.keys() == {"int5", "other-weights-varied"}
    weaker = compute_log_ratios(build_answer(int6=told, int5=told, int4=told, **{SKIPPED_LAYER: told}))
    assert weaker.keys() - all_.keys() == {"other-weights-weaker"}
    assert SKIPPED_LAYER not in weaker


def test_a_token_that_the_model_without_a_layer_expects_speaks_for_weaker_weights():
    told, unlikely = build_alternative((-0.5,) * 8), build_alternative((-9.0,) * 8)
    variants = dict.fromkeys(OTHER_WEIGHTS_VARIANTS, unlikely)
    found = compute_channel_statistics(
        build_answer(grid=(build_row(-9.0, -9.0),) * 8, logprob=(-9.0,) * 8, **variants, **{SKIPPED_LAYER: told})
    )
    assert [found[name] for name in list_text_ids(("other-weights-weaker",))] == [10**6, 10**6]


def test_mixtures_are_measured_where_all_their_passes_are_run():
    weaker, varied = (list_text_ids((name,)) for name in ("other-weights-weaker", "other-weights-varied"))
    assert list_mixed_ids("int5", ("int6", "int5", "int4")) == varied
    assert list_mixed_ids("int5", ("int6", "int5", "int4", SKIPPED_LAYER)) == (*varied, *weaker)
    assert list_mixed_ids("int8", WEIGHTS_ALTERNATIVES) == list_mixed_ids("int5", ("int5", "int4")) == ()
    assert list_statistics_of(SKIPPED_LAYER, False) == weaker
    assert list_statistics_of(SKIPPED_LAYER, True) == ()
    assert [find_ratio_cap(name) for name in (*varied, *weaker)] == [20, 100, 100, 1_000]


def test_other_weights_add_up_to_a_probability_over_the_vocabulary():
    # A vocabulary of two: what a mixture gives to both is 1 at every entropy, so that its ratio to a claim has mean 1.
    cold, warm = (0.9, 0.8, 0.75, 0.7, 0.6), {"int6": 0.5, "int5": 0.3, "int4": 0.01, SKIPPED_LAYER: 0.9}
    for entropy in (0.1, 1.0, 3.0, 6.0):
        totals = dict.fromkeys(OTHER_WEIGHTS_IDS, 0.0)
        for first in (True, False):
            row = [math.log(value if first else 1 - value) for value in cold]
            variants = {name: [math.log(value if first else 1 - value)] for name, value in warm.items()}
            for name, (logprob,) in compute_other_logprobs([row], [entropy], variants).items():
                totals[name] += math.exp(logprob)
        assert totals == pytest.approx(dict.fromkeys(OTHER_WEIGHTS_IDS, 1.0))


def test_the_winner_of_other_weights_speaks_for_them():
    told = build_alternative((-1.0,) * 8, margin=(0.0,) * 8, gap=(1.0,) * 8)
    found = compute_channel_statistics(build_answer(margin=(0.3,) * 8, gap=(1.0,) * 8, int4=told))
    assert found[build_seeded_id("int4")] > 990_000


def test_a_seeded_answer_that_says_nothing_scores_nothing():
    # A ratio of 1 in units of its cap would be more than its honest mean.
    sure = build_alternative((0.0,) * 8, margin=(0.0,) * 8, gap=(20.0,) * 8)
    found = compute_channel_statistics(build_answer(margin=(0.0,) * 8, gap=(20.0,) * 8, int4=sure))
    assert {found[name] for name in (*SEEDED_IDS, build_seeded_id("int4"))} == {0}


def test_a_seeded_ratio_counts_in_full_from_its_cap_on():
    told = build_alternative((-1.0,) * 8, margin=(0.0,) * 8, gap=(1.0,) * 8)
    ratio = 2.0 * math.exp(0.2 / channels.SEED_NOISE)  # one token at 0.2 below the winner that other weights explain
    for count, expected in ((1, (ratio - 1) / 99), (2, 1.0)):
        margins = (0.2,) * count + (0.0,) * (8 - count)
        found = compute_channel_statistics(build_answer(margin=margins, gap=(1.0,) * 8, int4=told))
        assert found[build_seeded_id("int4")] == pytest.approx(1e6 * expected, rel=0.01)


def test_an_honest_answer_speaks_for_no_other_weights():
    told = build_alternative((-1.0,) * 8, margin=(0.3,) * 8, gap=(1.0,) * 8)
    found = compute_channel_statistics(build_answer(margin=(0.0,) * 8, gap=(1.0,) * 8, int4=told))
    assert found[build_seeded_id("int4")] == 0


def compute_shortfalls(returned, **more):
    found = compute_channel_statistics(build_answer(returned=returned, **more))
    return [found[name] for name in LOGPROBS_IDS]


def test_returned_logprobs_that_agree_or_lie_above_are_no_shortfall():
    assert compute_shortfalls((-1.0,) * 8) == compute_shortfalls((-0.4,) * 8) == [0, 0]


def test_a_shortfall_counts_from_its_start_and_in_full_from_its_clip_on():
    # Eight tokens that half a nat is missing of, over at least a quarter of the 64 that were asked for.
    assert compute_shortfalls((-1.5,) * 8) == [500_000, 500_000]
    assert compute_shortfalls((-1.25,) * 8) == pytest.approx([500_000, 83_333], abs=1)
    assert compute_shortfalls((-1.1,) * 8) == pytest.approx([0, 0], abs=1)


def test_what_a_penalty_may_have_moved_is_not_looked_at():
    assert compute_shortfalls((None, None, -9.0, *(None,) * 5)) == [62_500, 62_500]


def test_minus_9999_is_no_log_probability():
    assert compute_shortfalls((-9999.0,) * 7 + (-1.0,)) == [0, 0]


@pytest.mark.parametrize("name", ["t71-p100", "t143-p100"])
def test_logprobs_at_the_temperature_of_the_provider_are_no_shortfall(name):
    place = GRID_IDS.index(name)
    row = tuple(-3.0 if index == place else -1.0 for index in range(POINTS))
    assert compute_shortfalls((-3.0,) * 8, grid=(row,) * 8) == [0, 0]


def test_logprobs_between_two_temperatures_are_no_shortfall():
    first, second = GRID_IDS.index("t100-p100"), GRID_IDS.index("t111-p100")
    row = tuple({first: -1.0, second: -2.0}.get(index, -0.5) for index in range(POINTS))
    assert compute_shortfalls((-1.5,) * 8, grid=(row,) * 8)[1] == 0


def test_a_filter_of_the_grid_explains_no_shortfall():
    place = GRID_IDS.index("t100-p90")
    row = tuple(-9.0 if index == place else -1.0 for index in range(POINTS))
    assert compute_shortfalls((-9.0,) * 8, grid=(row,) * 8) == [500_000, 500_000]


def test_a_shortfall_is_the_same_against_every_setting():
    place = GRID_IDS.index("t91-p100")
    assert compute_shortfalls((-1.5,) * 8, settings=place) == compute_shortfalls((-1.5,) * 8)


def test_logprobs_of_another_number_of_tokens_are_refused():
    with pytest.raises(InvalidInput, match="each token"):
        compute_shortfalls((-1.0,) * 9)


def build_greedy(margin, settings=None, **alternatives):
    return build_answer(margin=margin, gap=(1.0,) * 8, settings=settings, is_greedy=True, **alternatives)


def test_at_temperature_0_nothing_but_its_own_statistics_counts():
    found = compute_channel_statistics(build_greedy((0.0,) * 8, int4=build_alternative((-0.1,) * 8)))
    assert {get_channel(name) for name in found} == {"greedy"}
    assert [found[name] for name in GREEDY_IDS] == [0, 0]


def test_at_temperature_0_an_answer_that_the_claimed_weights_give_speaks_for_no_others():
    sure = tuple((0.0,) * POINTS for _ in range(8))
    answer = build_answer(grid=sure, margin=(0.0,) * 8, is_greedy=True, int4=build_alternative((0.0,) * 8))
    found = compute_channel_statistics(answer)
    assert [found[name] for name in list_greedy_ids(("int4",))] == [50_000, 10_000]


def test_at_temperature_0_the_answer_of_other_weights_speaks_for_them():
    found = compute_channel_statistics(build_greedy((0.0, 2.0) * 4, int4=build_alternative((0.0,) * 8)))
    assert min(found[name] for name in list_greedy_ids(("int4",))) > 500_000


def test_ratios_at_temperature_0_are_the_same_against_every_setting_and_margins_belong_to_the_claim():
    told = build_alternative((0.0,) * 8)
    claimed, other = (
        compute_channel_statistics(build_greedy((0.0, 2.0) * 4, settings=settings, int4=told)) for settings in (None, 2)
    )
    assert other == {name: claimed[name] for name in list_greedy_ids(("int4",))}


def test_at_temperature_0_a_token_in_doubt_is_certain_under_the_claim():
    told = build_alternative((0.0,) * 8)
    margins = (0.0,) * 7 + (9.0,)
    ratios = [
        compute_log_ratios(
            build_answer(
                grid=[(value,) * POINTS for value in (*(0.0,) * 7, -9.0)],
                margin=margins,
                is_greedy=True,
                certain_tokens=certain,
                int4=told,
            )
        )["int4"]
        for certain in (None, 7)
    ]
    assert ratios[0] > 5.0 and ratios[1] == 0.0


@pytest.mark.parametrize(("certain", "ratio"), [(None, 8.0), (6, 6.0)])
def test_a_token_in_doubt_is_certain_under_every_setting(certain, ratio):
    told = build_alternative((0.0,) * 8)
    answer = build_answer(settings=GRID_IDS.index("t91-p100"), certain_tokens=certain, int4=told)
    assert compute_log_ratios(answer)["int4"] == pytest.approx(ratio)


def test_as_an_explanation_one_answer_at_temperature_0_counts_for_no_more_than_its_limit():
    ratios = compute_log_ratios(build_greedy((0.0,) * 8, int4=build_alternative((-500.0,) * 8)))
    assert ratios == {"int4": channels.LEAST_RATIO}


def test_a_text_that_another_model_cannot_have_written_is_no_proof_that_it_was_not_served():
    told = build_alternative((-math.inf, *(0.0,) * 7))
    told.is_whole = True
    answer = build_answer(**{SIBLING: told})
    assert compute_log_ratios(answer)[SIBLING] == channels.LEAST_RATIO
    values = compute_channel_statistics(answer)
    assert max(values[name] for name in list_text_ids((SIBLING,))) < 100


def test_positions_beyond_max_tokens_are_not_looked_at():
    long = build_answer(logprob=(-1.0,) * 100, int4=build_alternative((-1.0,) * 64 + (-0.1,) * 36))
    assert compute_log_ratios(long)["int4"] == pytest.approx(0.0)


def test_nan_is_refused():
    with pytest.raises(InvalidInput, match="NaN"):
        compute_channel_statistics(build_answer(int4=build_alternative((math.nan,) * 8)))


@given(st.lists(st.floats(-30, 0), min_size=1, max_size=12), st.lists(st.floats(-30, 0), min_size=12, max_size=12))
def test_every_statistic_is_between_nought_and_one(claimed, other):
    told = build_alternative(tuple(other[: len(claimed)]), margin=(0.1,) * len(claimed), gap=(0.2,) * len(claimed))
    answer = build_answer(
        logprob=tuple(claimed), margin=(0.2,) * len(claimed), gap=(0.1,) * len(claimed), int6=told, int4=told
    )
    assert all(0 <= value <= 1_000_000 for value in compute_channel_statistics(answer).values())
