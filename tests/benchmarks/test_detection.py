"""The detection benchmark on made-up pools: mixtures, Wald's bound, own and other people's columns of the table."""

import math

import numpy as np
import pytest

from benchmarks import detection, named_models
from benchmarks.cheat_rows import find_row
from benchmarks.detection import Result, build_plan, format_table, main, measure_row
from benchmarks.detection_peers import OwnResult, format_peers
from benchmarks.detection_pools import Pool, join_pools
from benchmarks.pass_costs import list_passes
from benchmarks.peers import RequestColumns
from benchmarks.resample import Lives
from scoring.evidence.audit import Unit
from scoring.evidence.audit_plan import build_audit_plan
from scoring.evidence.channel_ids import ACTIVATIONS_IDS, CAPS, CHANNELS, OWN_NOISE_ID, build_text_id
from scoring.evidence.tolerance import build_bound

FINE, RATIO = "seeded-margin-fine-v1", "text-int4-c100-v1"
MU_PPM = {FINE: 50_000, RATIO: 20_000, "seeded-int8-ratio-v1": 1_000_000}


class Profile:
    """What a measurement reads of a profile."""

    def compute_tolerances(self):
        return {name: build_bound(mu_ppm) for name, mu_ppm in MU_PPM.items()}


def build_pool(g_ppm, count=20, ratio=10.0):
    units = [Unit(statistics_ppm={FINE: g_ppm, RATIO: g_ppm})] * count
    return Pool(units=units, ratios=[{"int4": ratio}] * count, tokens=60.0)


CHEATED, HONEST = build_pool(1_000_000), build_pool(0)


def measure(name, channel="seeded", pools=None):
    return measure_row(find_row(name), channel, Profile(), pools or {"int4": CHEATED}, HONEST, 50)


def test_a_bound_of_everything_is_not_bet_on():
    assert [statistic.id for statistic in build_plan(Profile(), "seeded").statistics] == [FINE]


def test_a_gross_cheat_needs_few_requests_and_a_diluted_one_more():
    whole, diluted = measure("int4"), measure("int4-diluted-20")
    assert whole.lives.get_quantile(0.99) < 8 < diluted.lives.get_quantile(0.5)


def test_a_sleeper_is_found_after_it_wakes():
    assert 500 < measure("int4-sleeper-500").lives.get_quantile(0.99) < 520


def test_a_row_without_answers_is_left_out():
    assert measure("int6") is None
    assert measure("int4", pools={"int4": join_pools([])}) is None


def test_walds_bound_is_the_threshold_over_the_mean_ratio():
    assert measure("int4", "text").wald == pytest.approx(math.log(1e6) / 10.0)
    assert measure("int4", "seeded").wald is None


NAMED = "sibling-0123456789abcdef"
NAMED_ID = build_text_id(NAMED, 100)


def test_a_named_row_takes_another_row_s_answers_and_bets_on_the_model_that_is_named(monkeypatch):
    monkeypatch.setitem(MU_PPM, NAMED_ID, 20_000)
    units = [Unit(statistics_ppm={RATIO: 0, NAMED_ID: 1_000_000})] * 20
    pools = {"drop-layer": Pool(units=units, ratios=[{NAMED: 8.0}] * 20, tokens=60.0)}

    def measure_named(name, channel="text", named=None):
        known = {"drop-layer": NAMED} if named is None else named
        return measure_row(find_row(name), channel, Profile(), pools, HONEST, 50, known)

    found = measure_named("drop-layer-named")
    assert found.lives.get_quantile(0.99) < 10
    assert found.wald == pytest.approx(math.log(1e6) / 8.0)
    assert measure_named("drop-layer").lives.get_quantile(0.5) == math.inf
    assert measure_named("drop-layer-named", "seeded") is None
    assert measure_named("drop-layer-named", named={}) is None


def test_models_are_named_only_where_a_profile_has_bounds_for_them(monkeypatch):
    monkeypatch.setattr(
        named_models, "find_named_ids", lambda: {"drop-layer": NAMED, "other-model": "sibling-" + "0" * 16}
    )
    known = Profile()
    known.compute_mu_ppm = lambda: {name: 20_000 for cap in CAPS for name in [build_text_id(NAMED, cap)]}
    assert named_models.find_named(known, ["drop-layer", "other-model", "int4"]) == {"drop-layer": NAMED}
    assert named_models.find_named(known, ["int4"]) == {}
    known.compute_mu_ppm = lambda: {FINE: 50_000}
    monkeypatch.setattr(named_models, "find_named_ids", None)
    assert named_models.find_named(known, ["drop-layer"]) == {}


def test_the_table_says_when_a_life_never_got_there():
    lives = Lives(reached=np.array([3.0, 3.0, math.inf]), largest=np.zeros(3))
    text = format_table([Result(row="int8", channel="text", answers=2, lives=lives, tokens=60.0, wald=None)])
    assert "| int8 | text | 2 | 3, > 600 |" in text
    assert text.endswith("| - |")


def test_a_measured_cost_stands_last_in_its_row():
    lives = Lives(reached=np.array([3.0]), largest=np.zeros(1))
    text = format_table(
        [Result(row="int8", channel="text", answers=2, lives=lives, tokens=60.0, wald=None, cost=2.428)]
    )
    assert text.endswith("| 180 | - | 2.43 |")


def test_a_channel_needs_the_passes_that_its_statistics_come_from():
    def list_for(*statistics):
        plan = build_audit_plan(dict.fromkeys(statistics, 10_000), CHANNELS, covers_all_settings=False)
        return list_passes(plan, ("int4", "int8"))

    assert list_for(FINE) == ("reference",)
    assert list_for(FINE, OWN_NOISE_ID) == ("reference", "second-run")
    assert list_for(RATIO) == ("reference", "int4")
    assert list_for("text-int8-c100-v1", ACTIVATIONS_IDS[0]) == ("reference", "activations", "int8")


def columns(margin):
    zeros = np.zeros(8)
    return RequestColumns(
        ids=np.arange(8),
        rank=np.zeros(8, np.int64),
        logprob=zeros,
        pit_low=zeros,
        pit_high=zeros,
        margin=zeros + margin,
    )


def test_peers_stand_beside_ours_at_the_same_requests():
    own = {"int4": OwnResult(requests=5, power=0.75, false_alarms=0.0)}
    text = format_peers(own, {"int4": [columns(0.4)] * 9}, [columns(0.01)] * 9, [columns(0.01)] * 9, 40)
    assert "| int4 | 5 | 0.75, 0.00 | 1.00, 0.00 | 0.00, 0.00 |" in text


@pytest.mark.parametrize(
    "shorter", [["--rows", "int4"], ["--channels", "text"], ["--no-cheats"], ["--no-honest-rows"]], ids=" ".join
)
def test_only_the_whole_table_is_written_into_the_document(shorter, capsys):
    with pytest.raises(SystemExit):
        main(["--write", *shorter])
    assert "the whole table" in capsys.readouterr().err


def test_a_channel_with_a_pass_that_was_not_measured_has_no_cost(monkeypatch):
    monkeypatch.setattr(detection, "measure_passes", lambda answers, wanted: {"reference": 0.5})
    assert detection.measure_costs(Profile(), ("seeded", "text"), []) == {"seeded": 0.5}
