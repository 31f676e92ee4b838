"""What a devnet must come to, and every bad ending that it must not pass for good."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from validator.devnet.layout import PROVIDERS
from validator.devnet.result import (
    MAX_MEMORY_BYTES,
    MAX_SECONDS,
    DevnetResult,
    ProviderResult,
    check_result,
    find_limits_passed,
)

WEI = 10**18
Spoil = Callable[[DevnetResult], object]


def test_a_good_end_passes_every_check(good: DevnetResult) -> None:
    assert [check for check in check_result(good) if not check.passed] == []
    assert good.to_json()["passed"] is True


def find(result: DevnetResult, name: str) -> ProviderResult:
    return next(item for item in result.providers if item.spec.name == name)


def set_trust(name: str, trust: int) -> Spoil:
    return lambda result: find(result, name).trust_by_epoch.append((7, trust))


def take_stake(name: str, quiv: int) -> Spoil:
    def spoil(result: DevnetResult) -> None:
        item = find(result, name)
        item.stake_after_wei = item.stake_before_wei - quiv * WEI

    return spoil


def change_challenge(name: str, **changes: object) -> Spoil:
    def spoil(result: DevnetResult) -> None:
        result.challenges = [
            replace(item, **changes) if item.name == name else item  # type: ignore[arg-type]
            for item in result.challenges
        ]

    return spoil


def drop_challenge(name: str) -> Spoil:
    def spoil(result: DevnetResult) -> None:
        result.challenges = [item for item in result.challenges if item.name != name]

    return spoil


def drop_slash(name: str) -> Spoil:
    def spoil(result: DevnetResult) -> None:
        result.slashes = [item for item in result.slashes if item.provider != find(result, name).address]

    return spoil


def doubt_slash(name: str) -> Spoil:
    def spoil(result: DevnetResult) -> None:
        result.slashes = [
            replace(item, is_verified_by_stranger=item.provider != find(result, name).address)
            for item in result.slashes
        ]

    return spoil


def forget_trust(name: str) -> Spoil:
    return lambda result: find(result, name).trust_by_epoch.clear()


BAD_ENDINGS: list[tuple[str, Spoil, str]] = [
    ("an honest provider slashed", take_stake("honest-bf16", 1), "honest providers are not slashed"),
    ("the other honest provider slashed", take_stake("honest-fp32", 2500), "honest providers are not slashed"),
    ("an honest provider below a liar", set_trust("honest-fp32", 340), "honest providers score highest"),
    ("an honest provider level with the flaky one", set_trust("honest-bf16", 780), "honest providers score highest"),
    ("an honest provider never scored", forget_trust("honest-bf16"), "honest providers score highest"),
    ("a liar that scores best", set_trust("int4", 950), "honest providers score highest"),
    ("a liar not slashed", take_stake("int4", 0), "int4 is proven and slashed within its tier"),
    ("a liar slashed without evidence", drop_slash("int4"), "int4 is proven and slashed within its tier"),
    ("evidence that a stranger refuses", doubt_slash("drop-layer"), "drop-layer is proven and slashed within its tier"),
    ("a slash beyond the tier's cap", take_stake("hidden-prompt", 501), "hidden-prompt is proven and slashed"),
    ("a slash of everything", take_stake("drop-layer", 250_000), "drop-layer is proven and slashed within its tier"),
    ("a liar that gained stake", take_stake("int4", -1), "int4 is proven and slashed within its tier"),
    ("the flaky one slashed", take_stake("flaky", 1), "flaky scores lower and is not slashed"),
    ("the flaky one on top", set_trust("flaky", 950), "flaky scores lower and is not slashed"),
    ("the right challenge rejected", change_challenge("right", verdict="rejected"), "the right challenge is upheld"),
    ("the right challenge open", change_challenge("right", verdict="inconclusive"), "the right challenge is upheld"),
    ("the right challenge not filed", drop_challenge("right"), "the right challenge is upheld"),
    ("the wrong challenge upheld", change_challenge("wrong", verdict="upheld"), "the wrong challenge loses its bond"),
    ("the wrong one undecided", change_challenge("wrong", verdict="inconclusive"), "the wrong challenge loses"),
    ("the wrong one paid", change_challenge("wrong", consumer_change_wei=1), "the wrong challenge loses its bond"),
    ("the wrong one not filed", drop_challenge("wrong"), "the wrong challenge loses its bond"),
    ("a feed that does not verify", lambda it: setattr(it, "is_feed_verified", False), "a feed item verifies offline"),
    ("money from nowhere", lambda it: setattr(it, "is_supply_conserved", False), "balances plus burned"),
]


@pytest.mark.parametrize(("name", "spoil", "check"), BAD_ENDINGS, ids=[row[0] for row in BAD_ENDINGS])
def test_refuses_an_end_with(good: DevnetResult, name: str, spoil: Spoil, check: str) -> None:
    spoil(good)
    failed = [item.name for item in check_result(good) if not item.passed]
    assert any(item.startswith(check) for item in failed), failed
    assert good.to_json()["passed"] is False


def test_a_slash_at_the_cap_is_within_it(good: DevnetResult) -> None:
    take_stake("hidden-prompt", 500)(good)
    assert all(check.passed for check in check_result(good))


def test_a_network_of_nobody_does_not_pass(good: DevnetResult) -> None:
    good.providers = []
    assert not all(check.passed for check in check_result(good))


def test_a_ledger_that_was_never_read_does_not_pass(good: DevnetResult) -> None:
    for item in good.providers:
        item.stake_after_wei = item.slash_cap_bps = 0
    assert not all(check.passed for check in check_result(good))


def test_every_check_says_what_it_saw(good: DevnetResult) -> None:
    for check in check_result(good):
        assert check.name and check.detail


def test_the_document_for_machines_holds_the_same(good: DevnetResult) -> None:
    document = json.loads(json.dumps(good.to_json()))
    assert [item["name"] for item in document["providers"]] == [spec.name for spec in PROVIDERS]
    liar = next(item for item in document["providers"] if item["name"] == "drop-layer")
    assert (liar["slashed_wei"], liar["slash_cap_bps"]) == (str(35_000 * WEI), 1500)
    assert int(document["burned_wei"]) == sum(int(item["slashed_wei"]) for item in document["providers"])
    assert document["challenges"][1]["consumer_change_wei"] == str(-14 * WEI)
    assert {check["name"] for check in document["checks"]} == {check.name for check in check_result(good)}


def find_floats(value: object) -> bool:
    if isinstance(value, dict):
        return any(find_floats(item) for item in value.values())
    return any(find_floats(item) for item in value) if isinstance(value, list) else isinstance(value, float)


def test_no_amount_is_rounded_in_the_document(good: DevnetResult) -> None:
    assert not find_floats(json.loads(json.dumps(good.to_json())))


def test_a_slow_machine_is_told_and_is_no_wrong_result(good: DevnetResult) -> None:
    assert find_limits_passed(good) == []
    good.seconds, good.peak_memory_bytes = MAX_SECONDS + 1, MAX_MEMORY_BYTES + 1
    assert [sentence.split()[0] for sentence in find_limits_passed(good)] == ["took", "used"]
    assert all(check.passed for check in check_result(good))
