"""Conformal change detection: has an endpoint begun to differ from itself? It schedules audits and never slashes.

The null is that the scores of successive observations (a log-probability, a border input, a latency) are exchangeable.
"The same as last week" is the wrong null for a slash: honest endpoints blip, route and upgrade. So the answer of this
module is an alarm, and the evidence of one epoch is capped, which keeps a single bad day from raising it.

The p-value of observation n, `p = (#{i <= n: s_i > s_n} + theta #{i <= n: s_i = s_n}) / n` with theta uniform from the
beacon, is uniform given the p-values before it (Vovk, Nouretdinov, Gammerman, "Testing exchangeability on-line", 2003).
Betting densities on [0, 1] that depend on earlier p-values alone multiply to a test martingale:

* the *simple jumper* bets `1 + eps (p - 1/2)`, eps in {-1, 0, 1}, and moves a share J of its capital to equal parts
  before every bet: it sees a shift in either direction and forgets old ones (Vovk et al., "Retrain or not retrain:
  conformal test martingales for change-point detection", 2021, arXiv 2102.10439);
* the *power* martingale averages `k p^(k-1)` over a grid of k: it sees scores that are larger than ever before.

Condition for the average, and for reading the wealth at a stopping time: everything is a martingale in the filtration
of the *p-values*, not of the scores. Stop by looking at p-values and wealth alone, and do not average or multiply with
e-processes of other data: there the expectation is not bounded by 1.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass

from scoring.errors import InvalidInput
from scoring.evidence.algebra import add_logs, average_logs, cap_log_epoch

JUMPS = (-1.0, 0.0, 1.0)
JUMP_SHARE = 0.01
POWERS = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeState:
    """Scores so far in rising order, and the capitals of both martingales in nats.

    `log_jumper` has one capital per direction, which sum to its wealth; `log_powers` one wealth per exponent.
    """

    scores: tuple[float, ...] = ()
    log_jumper: tuple[float, ...] = (-math.log(len(JUMPS)),) * len(JUMPS)
    log_powers: tuple[float, ...] = (0.0,) * len(POWERS)

    @property
    def log_wealth(self) -> float:
        """Return the logarithm of the average of jumper and powers, in nats."""
        return average_logs((add_logs(self.log_jumper), average_logs(self.log_powers)))


def compute_conformal_p_value(scores: Sequence[float], score: float, tie: float) -> float:
    """Return the randomised conformal p-value of a score among the scores before it, which are in rising order.

    Small when the score is larger than those before. Condition: `tie` is a uniform number that nobody chose
    (`draws.compute_uniform`), and scores do not depend on the order of the observations: a fixed function of each.
    Raises InvalidInput unless the score is a number and the tie inside (0, 1).
    """
    if math.isnan(score):
        raise InvalidInput("is not a number", "score")
    if not 0.0 < tie < 1.0:
        raise InvalidInput("must be above 0 and below 1", "tie")
    larger = len(scores) - bisect_right(scores, score)
    equal = bisect_right(scores, score) - bisect_left(scores, score) + 1
    return (larger + tie * equal) / (len(scores) + 1)


def fold_change_epoch(
    state: ChangeState, scores: Sequence[float], ties: Sequence[float], log_cap: float
) -> ChangeState:
    """Return the state after the observations of one epoch, in order, its growth capped for the epoch as a whole.

    Condition: the one of the module; one uniform number per score in `ties`; the wealth is read at the ends of epochs.
    All capitals are lowered by one factor, so the process only becomes smaller. Observations of one epoch that share a
    cause (one busy hour) are not exchangeable with those of another: hand in one summary for each epoch then.
    """
    if len(scores) != len(ties):
        raise InvalidInput(f"{len(ties)} for {len(scores)} scores", "ties")
    seen, jumper, powers = list(state.scores), state.log_jumper, state.log_powers
    for score, tie in zip(scores, ties, strict=True):
        p = compute_conformal_p_value(seen, score, tie)
        jumper, powers = bet_jumper(jumper, p), bet_powers(powers, p)
        insort(seen, score)
    after = ChangeState(scores=tuple(seen), log_jumper=jumper, log_powers=powers)
    lowered = cap_log_epoch(state.log_wealth, after.log_wealth, log_cap) - after.log_wealth
    return ChangeState(
        scores=after.scores,
        log_jumper=tuple(value + lowered for value in jumper),
        log_powers=tuple(value + lowered for value in powers),
    )


def bet_jumper(log_capitals: Sequence[float], p: float) -> tuple[float, ...]:
    """Return the capitals of the simple jumper after a p-value: mix by J, then multiply by `1 + eps (p - 1/2)`.

    Condition: p is uniform given the p-values before. The factors have mean 1 under it, and mixing moves capital only.
    """
    _check_p(p)
    log_mixed = add_logs(log_capitals) + math.log(JUMP_SHARE / len(JUMPS))
    stayed = [value + math.log1p(-JUMP_SHARE) for value in log_capitals]
    return tuple(
        add_logs((value, log_mixed)) + math.log1p(eps * (p - 0.5)) for value, eps in zip(stayed, JUMPS, strict=True)
    )


def bet_powers(log_wealths: Sequence[float], p: float) -> tuple[float, ...]:
    """Return the wealth of each power martingale after a p-value: times `k p^(k-1)`, of mean 1 under a uniform p."""
    _check_p(p)
    return tuple(
        value + math.log(power) + (power - 1) * math.log(p) for value, power in zip(log_wealths, POWERS, strict=True)
    )


def is_change_alarm(state: ChangeState, log_threshold: float) -> bool:
    """Tell whether the wealth calls for audits: under exchangeability with probability at most 1/threshold, ever.

    Condition: the one of the module. Never evidence against a provider: what an audit finds is.
    """
    return state.log_wealth >= log_threshold


def _check_p(p: float) -> None:
    if not 0.0 < p <= 1.0:
        raise InvalidInput("expected a number above 0 and at most 1", "p")
