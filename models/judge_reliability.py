"""How far a judge counts: measured on items whose better answer is known, with a lower bound, weight 0 at chance.

The bundled items are short instruction-following pairs in which one answer is clearly wrong; in half of them the better
answer is the longer one, so that preferring length is chance. The better answer stands first in every second item, so
that preferring a place is chance as well.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from models.judge import Comparison, Judge, Unscored
from scoring.canonical import verify_depth
from scoring.errors import InvalidInput
from scoring.interval import compute_wilson_low_ppm

PPM = 1_000_000
CHANCE_PPM = 500_000
Z_MILLI = 2_576
"""A judge at chance gets a weight once in 200 measurements."""
ITEMS_KIND = "quiver-judge-items-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownItem:
    """A question with an answer that is better and one that is worse, beyond dispute."""

    question: str
    better: str
    worse: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReliability:
    """What a judge has shown. An item without a verdict counts as wrong; `weight_ppm` is its weight in a score."""

    judge: str
    items: int
    correct: int
    unscored: int
    lower_bound_ppm: int
    weight_ppm: int

    def describe(self) -> str:
        """Return the sentence for reports."""
        shown = (
            f"judge {self.judge}: {self.correct} of {self.items} known answers right "
            f"({self.unscored} without verdict), at least {self.lower_bound_ppm / 10_000:.1f} %"
        )
        if self.weight_ppm == 0:
            return f"{shown}: not better than chance, gated out with weight 0"
        return f"{shown}: weight {self.weight_ppm / 10_000:.1f} %"


def measure_reliability(judge: Judge, items: Sequence[KnownItem]) -> JudgeReliability:
    """Return what a judge shows on known items; raises InvalidInput without items."""
    if not items:
        raise InvalidInput("a judge cannot be measured without items", "items")
    verdicts = [_ask(judge, item, is_first=index % 2 == 0) for index, item in enumerate(items)]
    return build_reliability(
        judge.identity.name,
        items=len(items),
        correct=sum(isinstance(verdict, float) and verdict > 0.5 for verdict in verdicts),
        unscored=sum(isinstance(verdict, Unscored) for verdict in verdicts),
    )


def build_reliability(judge: str, *, items: int, correct: int, unscored: int) -> JudgeReliability:
    """Return the lower bound and the weight that follow from counts.

    The bound is Wilson's at z = 2.576; the weight rises linearly from 0 at chance to 1 at certainty.
    """
    low_ppm = compute_wilson_low_ppm(correct * PPM // items, items * PPM, Z_MILLI)
    weight_ppm = max(0, low_ppm - CHANCE_PPM) * PPM // (PPM - CHANCE_PPM)
    return JudgeReliability(
        judge=judge,
        items=items,
        correct=correct,
        unscored=unscored,
        lower_bound_ppm=low_ppm,
        weight_ppm=weight_ppm,
    )


def load_known_items() -> tuple[KnownItem, ...]:
    """Return the bundled items."""
    text = resources.files("models").joinpath("data", "judge_items.json").read_text(encoding="utf-8")
    return parse_known_items(text)


def parse_known_items(text: str) -> tuple[KnownItem, ...]:
    """Read items from JSON text of kind quiver-judge-items-v1; raises InvalidInput with the place."""
    try:
        verify_depth(text)
        document = json.loads(text)
    except (ValueError, InvalidInput) as error:
        raise InvalidInput(f"not JSON: {error}", "items") from None
    if not isinstance(document, dict) or document.get("kind") != ITEMS_KIND:
        raise InvalidInput(f"expected an object of kind {ITEMS_KIND}", "kind")
    rows = document.get("items")
    if not isinstance(rows, list) or not rows:
        raise InvalidInput("expected a list of items", "items")
    return tuple(_parse_item(row, f"items[{index}]") for index, row in enumerate(rows))


def _parse_item(row: object, field: str) -> KnownItem:
    wanted = {"question", "better", "worse"}
    if not isinstance(row, dict) or set(row) != wanted or not all(isinstance(row[name], str) for name in wanted):
        raise InvalidInput(f"expected an object with the texts {', '.join(sorted(wanted))}", field)
    return KnownItem(**row)


def _ask(judge: Judge, item: KnownItem, *, is_first: bool) -> float | Unscored:
    """Return the probability given to the better answer."""
    answers = (item.better, item.worse) if is_first else (item.worse, item.better)
    verdict = judge.compare(Comparison(question=item.question, answer_a=answers[0], answer_b=answers[1]))
    if isinstance(verdict, Unscored):
        return verdict
    return verdict if is_first else 1.0 - verdict
