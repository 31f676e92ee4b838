"""The shipped profile: it loads, it makes a plan, and the tables in docs/verification.md are its numbers."""

from pathlib import Path

import pytest

from models.profiles import load_profile
from scoring.errors import InvalidInput
from scoring.evidence.plan import build_plan
from scoring.evidence.profile import Cell
from scoring.evidence.statistics import STATISTIC_IDS

DOCUMENT = Path(__file__).parents[2] / "docs" / "verification.md"


def build_measurement_row(cell: Cell, statistic: str) -> str:
    """Return the table row of one statistic: means over strata by their size, the largest value, the largest mu."""
    items = [item for item in cell.measurements if item.statistic == statistic]
    mean = sum(item.mean_ppm * item.n for item in items) / sum(item.n for item in items) / 1e6
    largest, mu = max(item.max_ppm for item in items) / 1e6, max(item.mu_ppm for item in items) / 1e6
    return f"| {cell.name} | `{statistic}` | {cell.requests} | {mean:.4f} | {largest:.3f} | {mu:.3f} |"


def build_hold_out_row(cell: Cell) -> str:
    """Return the table row of a cell's hold-out: the largest e-values ever reached, and the largest mean over mu."""
    result = cell.hold_out
    peaks = (result.max_product_milli_log10, result.max_case_milli_log10, result.max_challenge_milli_log10)
    values = " | ".join(f"{10 ** (peak / 1000):.2f}" for peak in peaks)
    return f"| {cell.name} | {result.n} | {values} | {result.max_mean_over_mu_ppm / 1e6:.2f} |"


def build_rows() -> list[str]:
    """Return every row that the document must hold."""
    cells = load_profile().cells
    return [build_measurement_row(cell, statistic) for cell in cells for statistic in STATISTIC_IDS] + [
        build_hold_out_row(cell) for cell in cells
    ]


def test_the_document_shows_the_numbers_of_the_shipped_profile():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [row for row in build_rows() if row not in text] == []


def test_the_shipped_profile_covers_both_dtypes_and_says_that_it_is_a_development_profile():
    profile = load_profile()
    assert {cell.provider_dtype for cell in profile.cells} == {"bf16", "fp32"}
    assert all(cell.requests >= 500 and cell.hold_out.n >= 300 for cell in profile.cells)
    assert profile.development and build_plan(profile).development


def test_honest_hold_out_requests_never_reach_an_alarming_wealth():
    for cell in load_profile().cells:
        assert cell.hold_out.max_product_milli_log10 < 2000
        assert cell.hold_out.max_case_milli_log10 < 2000


@pytest.mark.parametrize("name", ["", "unknown", "../bundled", "bundled.json"])
def test_refuses_profiles_that_are_not_shipped(name):
    with pytest.raises(InvalidInput, match="profile"):
        load_profile(name)
