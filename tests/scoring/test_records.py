"""Records refuse what breaks their own rules, on construction and from JSON alike."""

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from scoring.errors import InvalidInput
from scoring.records import PPM, FeedItem, Flag, ProbeOutcome, Reveal, ValidatorEntry, ValidatorSet


def build_entry(number: int, **changes: Any) -> ValidatorEntry:
    entry = ValidatorEntry(
        address=bytes([number]) * 20, public_key=bytes([number]) * 48, transport_key=bytes([number]) * 32, stake_wei=5
    )
    return replace(entry, **changes)


def build_outcome(**changes: Any) -> ProbeOutcome:
    outcome = ProbeOutcome(
        provider=bytes(20),
        offer_digest=bytes(32),
        index=0,
        reason="",
        is_provider_fault=False,
        transcript_digest=bytes(32),
        ttft_ms=1,
        latency_ms=1,
        output_tokens=1,
        statistics_ppm=(PPM,),
        has_similarity=True,
        similarity_ppm=PPM,
    )
    return replace(outcome, **changes)


def build_item(**changes: Any) -> FeedItem:
    values: dict[str, Any] = {field.name: 0 for field in fields(FeedItem)}
    values |= {"provider": bytes(20), "offer_digest": bytes(32), "manifest_digest": bytes(32)}
    return FeedItem(**values | changes)


def test_the_seats_of_a_set_are_found_by_account_and_its_stake_is_their_sum() -> None:
    validator_set = ValidatorSet(network=bytes(32), validators=(build_entry(3), build_entry(1, stake_wei=10**30)))
    assert validator_set.index_of(b"\x01" * 20) == 1
    assert validator_set.index_of(b"\x02" * 20) is None
    assert validator_set.total_stake_wei == 10**30 + 5


@pytest.mark.parametrize("field", ["address", "public_key", "transport_key"])
def test_refuses_two_validators_that_share_an_identity(field: str) -> None:
    twin = build_entry(2, **{field: getattr(build_entry(1), field)})
    with pytest.raises(InvalidInput, match=f"validators: two validators share a {field}"):
        ValidatorSet(network=bytes(32), validators=(build_entry(1), twin))


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("neither scored nor unscored", {"statistics_ppm": ()}, "either scored with statistics or unscored"),
        ("scored and unscored at once", {"reason": "timeout"}, "either scored with statistics or unscored"),
        ("a statistic beyond one", {"statistics_ppm": (0, PPM + 1)}, "beyond 1,000,000 ppm"),
        ("a similarity beyond one", {"similarity_ppm": PPM + 1}, "beyond 1,000,000 ppm"),
    ],
)
def test_refuses_outcomes(name: str, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        build_outcome(**changes)


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("a probe twice", (build_outcome(), build_outcome(ttft_ms=9))),
        ("probes out of order", (build_outcome(index=1), build_outcome())),
        ("providers out of order", (build_outcome(provider=b"\x01" * 20), build_outcome())),
    ],
)
def test_refuses_reveals(name: str, outcomes: tuple[ProbeOutcome, ...]) -> None:
    with pytest.raises(InvalidInput, match="not in order"):
        Reveal(validator=bytes(20), epoch=1, salt=bytes(32), vrf_proof=bytes(96), outcomes=outcomes)


@pytest.mark.parametrize(("low", "trust", "high"), [(2, 1, 3), (1, 3, 2), (1000, 1001, 1001), (0, 0, 1001)], ids=str)
def test_refuses_a_trust_outside_its_interval_or_range(low: int, trust: int, high: int) -> None:
    with pytest.raises(InvalidInput, match="trust_low <= trust <= trust_high <= 1000"):
        build_item(trust_low=low, trust=trust, trust_high=high)


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        build_item().trust = 1000  # type: ignore[misc]


def test_every_flag_is_a_bit_of_its_own() -> None:
    assert [flag.value for flag in Flag] == [1 << index for index in range(len(Flag))]
