"""Cheats: what the command line may say, what it means, when it applies."""

import pytest

from scoring.errors import InvalidInput
from validator.provider.cheats import CHEAT_USAGES, DEFAULT_HIDDEN_PROMPT, HONEST, Cheats, parse_cheats
from validator.provider.misbehaviour import Failure, draw_failure, is_cheated, load_known_consumers

UNDERSTOOD = {
    "nothing": ([], {}),
    "int8": (["int8"], {"variant": "int8"}),
    "int6": (["int6"], {"variant": "int6"}),
    "int5": (["int5"], {"variant": "int5"}),
    "int4": (["int4"], {"variant": "int4"}),
    "drop-layer": (["drop-layer"], {"variant": "drop-layer", "dropped_layer": None}),
    "drop-layer=0": (["drop-layer=0"], {"variant": "drop-layer", "dropped_layer": 0}),
    "other-model": (["other-model"], {"other_model": ""}),
    "other-model=NAME": (["other-model=a/b"], {"other_model": "a/b"}),
    "temperature": (["temperature=0.9"], {"temperature": 0.9}),
    "top-p": (["top-p=0.9"], {"top_p": 0.9}),
    "hidden-prompt": (["hidden-prompt"], {"hidden_prompt": DEFAULT_HIDDEN_PROMPT}),
    "hidden-prompt=TEXT": (["hidden-prompt=Praise x=y."], {"hidden_prompt": "Praise x=y."}),
    "forged-usage": (["forged-usage"], {"forges_usage": True}),
    "truncate-context": (["truncate-context=64"], {"context_tokens": 64}),
    "wrong-template": (["wrong-template"], {"has_wrong_template": True}),
    "canned": (["canned"], {"is_canned": True}),
    "slow": (["slow"], {"slow_ms": 2000}),
    "slow=MS": (["slow=50"], {"slow_ms": 50}),
    "flaky": (["flaky"], {"flaky_share": 0.4}),
    "flaky=SHARE": (["flaky=1"], {"flaky_share": 1.0}),
    "dilute alone means int4": (["dilute=0.05"], {"dilute_share": 0.05, "variant": "int4"}),
    "dilute of another": (["dilute=0.5", "int8"], {"dilute_share": 0.5, "variant": "int8"}),
    "dilute before another": (["hidden-prompt", "dilute=0.5"], {"dilute_share": 0.5, "variant": None}),
    "two-faced alone means int4": (["two-faced"], {"is_two_faced": True, "variant": "int4"}),
    "several": (["int4", "hidden-prompt=x", "forged-usage"], {"variant": "int4", "forges_usage": True}),
}


@pytest.mark.parametrize(("texts", "expected"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_understands(texts, expected) -> None:
    cheats = parse_cheats(texts)
    assert {name: getattr(cheats, name) for name in expected} == expected
    assert cheats.names == tuple(text.partition("=")[0] for text in texts)


REFUSED = {
    "an unknown name": (["int3"], "there are: int8"),
    "an empty name": ([""], "unknown cheat"),
    "twice the same": (["int4", "int4"], "twice"),
    "two weights": (["int4", "int8"], "choose one"),
    "weights and another model": (["other-model", "drop-layer"], "choose one"),
    "a value where there is none": (["int4=3"], "takes no value"),
    "a layer that is no number": (["drop-layer=x"], "integer from 0"),
    "a negative layer": (["drop-layer=-1"], "integer from 0"),
    "a temperature without value": (["temperature"], "number from 0 to 2"),
    "a temperature that is not a number": (["temperature=nan"], "number from 0 to 2"),
    "a temperature too high": (["temperature=2.1"], "number from 0 to 2"),
    "top-p zero": (["top-p=0"], "above 0"),
    "a context of nothing": (["truncate-context=0"], "integer from 1"),
    "a context without value": (["truncate-context"], "integer from 1"),
    "a huge integer": (["slow=" + "9" * 5000], "integer from 1"),
    "digits of another script": (["slow=٣"], "integer from 1"),
    "dilute without value": (["dilute"], "number above 0"),
    "dilute zero": (["dilute=0"], "number above 0"),
    "dilute above one": (["dilute=1.5"], "number above 0"),
    "an empty model": (["other-model="], "needs a model"),
    "an empty file": (["two-faced="], "needs a file"),
    "an empty hidden prompt": (["hidden-prompt="], "1 to 4000"),
}


@pytest.mark.parametrize(("texts", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(texts, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_cheats(texts)


def test_the_refusal_of_an_unknown_name_lists_every_cheat() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_cheats(["help"])
    assert all(usage in str(refused.value) for usage in CHEAT_USAGES)


NONCES = [number.to_bytes(32, "big") for number in range(2000)]


def test_an_honest_provider_never_cheats_and_a_slow_or_flaky_one_answers_honestly() -> None:
    for cheats in (HONEST, parse_cheats(["slow", "flaky"])):
        assert not any(is_cheated(cheats, bytes(20), nonce, frozenset()) for nonce in NONCES)


def test_a_diluting_provider_cheats_on_its_share_of_the_requests() -> None:
    cheats = parse_cheats(["dilute=0.05"])
    share = sum(is_cheated(cheats, bytes(20), nonce, frozenset()) for nonce in NONCES) / len(NONCES)
    assert 0.03 < share < 0.07


def test_a_two_faced_provider_is_honest_to_those_it_knows() -> None:
    cheats, known = parse_cheats(["two-faced"]), frozenset({b"k" * 20})
    assert not is_cheated(cheats, b"k" * 20, NONCES[0], known)
    assert is_cheated(cheats, b"u" * 20, NONCES[0], known)


def test_a_flaky_provider_fails_on_its_share_in_every_way_and_alike_for_the_same_nonce() -> None:
    cheats = parse_cheats(["flaky"])
    drawn = [draw_failure(cheats, nonce) for nonce in NONCES]
    assert 0.36 < sum(failure is not None for failure in drawn) / len(drawn) < 0.44
    assert set(drawn) == {None, *Failure}
    assert drawn == [draw_failure(cheats, nonce) for nonce in NONCES]


def test_a_provider_that_is_not_flaky_never_fails() -> None:
    assert all(draw_failure(Cheats(), nonce) is None for nonce in NONCES)


def test_reads_the_consumers_it_knows(tmp_path) -> None:
    path = tmp_path / "known"
    path.write_text(f"# validators\n0x{'ab' * 20}\n\n0x{'CD' * 20}  # second\n")
    assert load_known_consumers(path) == {bytes.fromhex("ab" * 20), bytes.fromhex("cd" * 20)}


def test_knows_nobody_without_a_file(tmp_path) -> None:
    assert load_known_consumers(None) == load_known_consumers(tmp_path / "none") == frozenset()


@pytest.mark.parametrize("line", ["0x12", "hello", "0x" + "ab" * 32])
def test_refuses_a_line_that_is_no_address(tmp_path, line) -> None:
    (tmp_path / "known").write_text(line)
    with pytest.raises(InvalidInput):
        load_known_consumers(tmp_path / "known")
