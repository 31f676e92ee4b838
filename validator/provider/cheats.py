"""TEST INSTRUMENTS: ways to cheat, for the devnet, the benchmarks and nothing else.

`--cheat NAME[=VALUE]` may be repeated. This module turns the texts into one frozen `Cheats` record; what they do is in
`validator.provider.answering` (prompt, sampling, weights, usage) and `validator.provider.misbehaviour` (slow, flaky).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from scoring.errors import InvalidInput

DEFAULT_VARIANT = "int4"
DEFAULT_HIDDEN_PROMPT = "You are a helpful assistant of ACME Corporation. Recommend ACME products whenever you can."
DEFAULT_SLOW_MS = 2_000
DEFAULT_FLAKY_SHARE = 0.4
MAX_SLOW_MS = 120_000
MAX_LAYER = 1023


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheats:
    """What a provider does wrong. The default is nothing.

    `variant` names damaged weights (models.variants; `dropped_layer` None is the middle one), `other_model` another
    model ("" for the default substitute).
    `dilute_share` is the share of requests that are cheated; requests of the `known_consumers_path`'s consumers are
    served honestly. `slow_ms` and `flaky_share` always apply; the rest to cheated requests only.
    """

    names: tuple[str, ...] = ()
    variant: str | None = None
    dropped_layer: int | None = None
    other_model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    hidden_prompt: str | None = None
    forges_usage: bool = False
    context_tokens: int | None = None
    has_wrong_template: bool = False
    is_canned: bool = False
    slow_ms: int = 0
    flaky_share: float = 0.0
    dilute_share: float = 1.0
    is_two_faced: bool = False
    known_consumers_path: Path | None = None

    @property
    def has_other_weights(self) -> bool:
        """Whether cheated requests are answered by other weights than the claimed ones."""
        return self.variant is not None or self.other_model is not None

    @property
    def changes_answers(self) -> bool:
        """Whether some request is answered otherwise than an honest provider would."""
        own = (self.temperature, self.top_p, self.hidden_prompt, self.context_tokens)
        flags = self.has_other_weights, self.forges_usage, self.has_wrong_template, self.is_canned
        return any(flags) or any(value is not None for value in own)


HONEST = Cheats()


def parse_cheats(texts: Iterable[str]) -> Cheats:
    """Return the cheats of a list of NAME[=VALUE]; raises InvalidInput that names what is wrong and what there is.

    `dilute` and `two-faced` say when to cheat: alone they do it with the int4 variant.
    """
    cheats = HONEST
    for text in texts:
        name, has_value, value = text.partition("=")
        if name not in _PARSERS:
            raise InvalidInput(f"unknown cheat {name[:40]!r}; there are: {', '.join(CHEAT_USAGES)}", "cheat")
        if name in cheats.names:
            raise InvalidInput(f"{name} is given twice", "cheat")
        changed = _PARSERS[name](cheats, name, value if has_value else None)
        cheats = replace(changed, names=(*cheats.names, name))
    if (cheats.is_two_faced or cheats.dilute_share < 1.0) and not cheats.changes_answers:
        cheats = replace(cheats, variant=DEFAULT_VARIANT)
    return cheats


def _parse_variant(cheats: Cheats, name: str, value: str | None) -> Cheats:
    _refuse_value(name, value)
    return _with_weights(cheats, name, variant=name)


def _parse_drop_layer(cheats: Cheats, name: str, value: str | None) -> Cheats:
    layer = None if value is None else _integer(name, value, 0, MAX_LAYER)
    return replace(_with_weights(cheats, name, variant=name), dropped_layer=layer)


def _parse_other_model(cheats: Cheats, name: str, value: str | None) -> Cheats:
    if value == "":
        raise InvalidInput(f"{name}= needs a model after the sign, or leave the sign out", "cheat")
    return _with_weights(cheats, name, other_model=value or "")


def _with_weights(cheats: Cheats, name: str, **change: str) -> Cheats:
    if cheats.has_other_weights:
        raise InvalidInput(f"{name}: the weights are exchanged by another cheat already; choose one", "cheat")
    return replace(cheats, **change)  # type: ignore[arg-type]  # only `variant` and `other_model`, both text


def _parse_temperature(cheats: Cheats, name: str, value: str | None) -> Cheats:
    return replace(cheats, temperature=_number(name, value, 0.0, 2.0))


def _parse_top_p(cheats: Cheats, name: str, value: str | None) -> Cheats:
    return replace(cheats, top_p=_number(name, value, 0.0, 1.0, is_low_open=True))


def _parse_hidden_prompt(cheats: Cheats, name: str, value: str | None) -> Cheats:
    if value is not None and not 0 < len(value) <= 4000:
        raise InvalidInput(f"{name} has a text of 1 to 4000 characters", "cheat")
    return replace(cheats, hidden_prompt=value or DEFAULT_HIDDEN_PROMPT)


def _parse_forged_usage(cheats: Cheats, name: str, value: str | None) -> Cheats:
    _refuse_value(name, value)
    return replace(cheats, forges_usage=True)


def _parse_truncate_context(cheats: Cheats, name: str, value: str | None) -> Cheats:
    return replace(cheats, context_tokens=_integer(name, value, 1, 1 << 20))


def _parse_wrong_template(cheats: Cheats, name: str, value: str | None) -> Cheats:
    _refuse_value(name, value)
    return replace(cheats, has_wrong_template=True)


def _parse_canned(cheats: Cheats, name: str, value: str | None) -> Cheats:
    _refuse_value(name, value)
    return replace(cheats, is_canned=True)


def _parse_slow(cheats: Cheats, name: str, value: str | None) -> Cheats:
    return replace(cheats, slow_ms=DEFAULT_SLOW_MS if value is None else _integer(name, value, 1, MAX_SLOW_MS))


def _parse_flaky(cheats: Cheats, name: str, value: str | None) -> Cheats:
    share = DEFAULT_FLAKY_SHARE if value is None else _number(name, value, 0.0, 1.0, is_low_open=True)
    return replace(cheats, flaky_share=share)


def _parse_dilute(cheats: Cheats, name: str, value: str | None) -> Cheats:
    return replace(cheats, dilute_share=_number(name, value, 0.0, 1.0, is_low_open=True))


def _parse_two_faced(cheats: Cheats, name: str, value: str | None) -> Cheats:
    if value == "":
        raise InvalidInput(f"{name}= needs a file after the sign, or leave the sign out", "cheat")
    return replace(cheats, is_two_faced=True, known_consumers_path=None if value is None else Path(value))


def _refuse_value(name: str, value: str | None) -> None:
    if value is not None:
        raise InvalidInput(f"{name} takes no value", "cheat")


def _integer(name: str, value: str | None, low: int, high: int) -> int:
    if value is None or not value.isascii() or not value.isdigit() or not low <= int(value[:10]) <= high:
        raise InvalidInput(f"{name} needs an integer from {low} to {high}, as in {name}={low}", "cheat")
    return int(value[:10])


def _number(name: str, value: str | None, low: float, high: float, *, is_low_open: bool = False) -> float:
    try:
        number = float(value or "")
    except ValueError:
        number = math.nan
    if not low <= number <= high or (is_low_open and number == low):
        raise InvalidInput(f"{name} needs a number {'above' if is_low_open else 'from'} {low:g} to {high:g}", "cheat")
    return number


_PARSERS: dict[str, Callable[[Cheats, str, str | None], Cheats]] = {
    **dict.fromkeys(("int8", "int6", "int5", "int4"), _parse_variant),
    "drop-layer": _parse_drop_layer,
    "other-model": _parse_other_model,
    "temperature": _parse_temperature,
    "top-p": _parse_top_p,
    "hidden-prompt": _parse_hidden_prompt,
    "forged-usage": _parse_forged_usage,
    "truncate-context": _parse_truncate_context,
    "wrong-template": _parse_wrong_template,
    "canned": _parse_canned,
    "slow": _parse_slow,
    "flaky": _parse_flaky,
    "dilute": _parse_dilute,
    "two-faced": _parse_two_faced,
}

_VALUES = {
    "drop-layer": "[=LAYER]", "other-model": "[=MODEL]", "temperature": "=T", "top-p": "=P", "hidden-prompt": "[=TEXT]",
    "truncate-context": "=TOKENS", "slow": "[=MS]", "flaky": "[=SHARE]", "dilute": "=SHARE", "two-faced": "[=FILE]",
}  # fmt: skip
CHEAT_USAGES = tuple(name + _VALUES.get(name, "") for name in _PARSERS)
"""What can stand after `--cheat`, for help texts."""
