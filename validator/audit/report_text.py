"""Hostile text on its way into a page: escaped, and without characters that change how what is beside them looks."""

import html
import re

MAX_TEXT_CHARACTERS = 20_000
# Controls but tab and line ends; marks that turn the direction of text; lone surrogates; invisible separators.
_INVISIBLE = re.compile(
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff\\ud800-\\udfff]"
)

_POWER = re.compile(r"\b10\^(-?[0-9.]*[0-9])")


def escape(value: object) -> str:
    """Return any value as text of a page or of a quoted attribute."""
    return html.escape(_INVISIBLE.sub(_name, str(value)), quote=True)


def escape_long(text: str) -> str:
    """Return a long text, cut at MAX_TEXT_CHARACTERS with a note."""
    cut = len(text) - MAX_TEXT_CHARACTERS
    return escape(text) if cut <= 0 else f"{escape(text[:MAX_TEXT_CHARACTERS])}<em> ({cut:,} more characters)</em>"


def escape_powers(text: str) -> str:
    """Return a sentence of ours for a page, `10^6` with its exponent raised."""
    return _POWER.sub(r"10<sup>\1</sup>", escape(text))


def format_number(value: object, digits: int = 0) -> str:
    """Return a number with thousands separators, a dash for none."""
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else "–"


def format_power(log10: object) -> str:
    """Return 10 to a power as a page shows it."""
    # Adding zero turns -0.0 into 0.0.
    return f"10<sup>{round(log10, 1) + 0.0:.1f}</sup>" if isinstance(log10, int | float) else "–"


def _name(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match.group()):04X}⟩"
