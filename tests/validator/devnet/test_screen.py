"""The devnet's screen draws whatever there is to draw, from nothing at all to a bad end."""

import io

import pytest
from rich.console import Console

from validator.devnet.layout import PROVIDERS
from validator.devnet.result import DevnetResult, ProviderResult
from validator.devnet.screen import SPARKS, build_live, print_result


def draw(content: object, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(content)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def print_to_text(result: DevnetResult, width: int = 400) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_result(console, result)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_draws_a_network_that_has_just_started() -> None:
    providers = [ProviderResult(spec=spec, address="0x") for spec in PROVIDERS]
    text = draw(build_live(providers, -1, 6, 0, []))
    assert "epoch 0 of 6 certified, 0 s" in text
    for spec in PROVIDERS:
        assert spec.name in text


def test_draws_scores_as_they_move_and_what_is_lost(good: DevnetResult) -> None:
    liar = next(item for item in good.providers if item.spec.name == "drop-layer")
    liar.trust_by_epoch = [(epoch, trust) for epoch, trust in enumerate((0, 125, 250, 375, 500, 625, 750, 876, 1000))]
    news = [f"line {number}" for number in range(9)]
    text = draw(build_live(good.providers, 5, 6, 123, news))
    assert SPARKS[0] in text and SPARKS[7] in text
    assert "35,000 QUIV" in text and "honest (fp32)" in text
    assert "line 8" in text and "line 3" in text and "line 2" not in text


@pytest.mark.parametrize(("trust", "bar"), [(0, "▁"), (1, "▁"), (999, "█"), (1000, "█")])
def test_every_score_has_a_bar(good: DevnetResult, trust: int, bar: str) -> None:
    for item in good.providers:
        item.trust_by_epoch = [(1, trust)]
    assert draw(build_live(good.providers, 1, 6, 1, [])).count(bar) == len(good.providers)


@pytest.mark.parametrize("width", [20, 80, 200])
def test_draws_on_any_width(good: DevnetResult, width: int) -> None:
    live = draw(build_live(good.providers, 5, 6, 123, ["x" * 500]), width)
    assert all(len(line) <= width for line in live.splitlines())
    # The commands to copy are never broken over lines.
    assert all(command in print_to_text(good, width) for command in good.commands.values())


def test_the_end_says_who_was_slashed_and_why_and_what_to_run(good: DevnetResult) -> None:
    text = print_to_text(good)
    for part in (
        "int4: false-capability, e-value 10^7.1 against a threshold of 10^6.8 after 32 probes (1 missing)",
        "signed by 4 validators in epoch 4",
        "against int4: upheld; the consumer gained 2 QUIV (committee's e-values 10^9.0, 10^8.1, abstained)",
        "against honest-bf16: rejected; the consumer lost 14 QUIV",
        "weight 0",
        "quiver feed verify feed-item.json",
        "6 epochs in 200 s, 4.0 GiB of memory at most",
        "balances, stakes and burns add up",
    ):
        assert part in text, part
    assert "FAIL" not in text and "slow or busy" not in text


def test_a_bad_end_is_marked(good: DevnetResult) -> None:
    good.is_feed_verified = good.is_supply_conserved = False
    good.seconds = 900
    text = print_to_text(good)
    assert text.count("FAIL") == 2
    assert "add up" not in text.partition("Check it yourself")[0]
    assert "this machine was slow or busy: took 900 s" in text


def test_an_end_without_anything_is_still_drawn(good: DevnetResult) -> None:
    good.slashes, good.challenges, good.commands = [], [], {}
    for item in good.providers:
        item.trust_by_epoch = []
    assert "FAIL" in print_to_text(good)


def test_markup_in_a_sentence_is_printed_and_not_obeyed(good: DevnetResult) -> None:
    good.judge = "picked [A] in 5 of 10 [/nonsense]"
    assert "picked [A] in 5 of 10 [/nonsense]" in print_to_text(good)
