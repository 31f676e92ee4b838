"""One file proves one item to whoever trusts a validator set; everything else is refused with a sentence."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quiver_oracle.mock import build_mock_item, build_mock_network
from scoring import canonical
from scoring.eip712 import compute_signing_root, compute_struct_hash
from scoring.errors import InvalidInput, OracleError, VerificationFailed
from scoring.feed import (
    FEED_PROOF_KIND,
    MAX_CLOCK_SKEW_S,
    FeedProof,
    build_feed,
    build_feed_proof,
    parse_feed_proof,
    parse_validator_set_file,
    verify_feed_proof,
)
from scoring.merkle import EMPTY_ROOT, compute_root

NOW_S = 1_900_000_000
ALICE, BOB, CAROL = (bytes([number]) * 20 for number in (1, 2, 3))
NETWORK = build_mock_network()
TRUSTED = NETWORK.validator_set_file
ITEMS = tuple(build_mock_item(provider, epoch=7, time_s=NOW_S - 100) for provider in (CAROL, ALICE, BOB))
PROOFS = NETWORK.publish(ITEMS, seats=(0, 1, 3))
GOOD = PROOFS[0]


def verify(proof: FeedProof, **changes: object) -> object:
    arguments: dict[str, object] = {"max_age_s": 3600, "now_s": NOW_S, "provider": ALICE, **changes}
    return verify_feed_proof(proof, TRUSTED, **arguments)  # type: ignore[arg-type]


def test_every_item_of_the_feed_is_proven_by_its_own_file() -> None:
    for proof, provider in zip(PROOFS, (ALICE, BOB, CAROL), strict=True):
        assert verify(parse_feed_proof(proof.encode()), provider=provider) == proof.item


def test_a_proof_is_good_without_the_validator_set_inside() -> None:
    assert verify(parse_feed_proof(replace(GOOD, validator_set=None).encode())) == GOOD.item


def test_leaves_are_in_order_of_provider_and_offer() -> None:
    feed = build_feed(ITEMS)
    assert [item.provider for item in feed.items] == [ALICE, BOB, CAROL]
    assert feed.leaves == tuple(compute_struct_hash(item) for item in feed.items)
    assert feed.root == compute_root(feed.leaves) == build_feed(tuple(reversed(ITEMS))).root


def test_an_empty_feed_has_the_empty_root() -> None:
    assert build_feed(()).root == EMPTY_ROOT


def test_refuses_a_feed_with_two_items_of_one_offer_or_of_two_epochs() -> None:
    with pytest.raises(InvalidInput, match="two items"):
        build_feed((ITEMS[0], replace(ITEMS[0], trust=1, trust_low=0)))
    with pytest.raises(InvalidInput, match="different epochs"):
        build_feed((ITEMS[0], replace(ITEMS[1], epoch=8)))


def test_refuses_to_prove_under_a_checkpoint_of_another_feed() -> None:
    feed = build_feed(ITEMS[:2])
    with pytest.raises(InvalidInput, match="another feed"):
        build_feed_proof(feed, 0, GOOD.checkpoint, GOOD.certificate, NETWORK.domain)
    with pytest.raises(InvalidInput, match="index below 2"):
        build_feed_proof(feed, 2, GOOD.checkpoint, GOOD.certificate, NETWORK.domain)


def resign(proof: FeedProof, **changes: object) -> FeedProof:
    """Certify a changed checkpoint with all seats: what a dishonest majority could do."""
    checkpoint = replace(proof.checkpoint, **changes)  # type: ignore[arg-type]
    return replace(
        proof, checkpoint=checkpoint, certificate=NETWORK.certify(compute_signing_root(checkpoint, NETWORK.domain))
    )


def thin() -> FeedProof:
    certificate = replace(GOOD.certificate, signers=b"\x03")
    return replace(GOOD, certificate=certificate)


FOREIGN = build_mock_network(name="another").publish(ITEMS)[0]
SAME_KEYS_OTHER_STAKES = build_mock_network((10**22, 10**22, 10**22, 10**22 + 1))
REFUSED: list[tuple[str, Callable[[], FeedProof], dict[str, object], str]] = [
    ("stale", lambda: GOOD, {"max_age_s": 99}, "stale: 100 s old where at most 99 s"),
    ("from the future", lambda: GOOD, {"now_s": NOW_S - 100 - MAX_CLOCK_SKEW_S - 1}, "from the future by 61 s"),
    ("another provider", lambda: GOOD, {"provider": BOB}, "about provider 0x0101"),
    ("another offer", lambda: GOOD, {"offer_digest": bytes(32)}, "another offer"),
    ("a foreign network", lambda: FOREIGN, {}, "from a foreign network: chain 31337, contract 0x"),
    ("a foreign network renamed", lambda: replace(FOREIGN, domain=NETWORK.domain), {}, "another validator set"),
    ("a network's other set", lambda: SAME_KEYS_OTHER_STAKES.publish(ITEMS)[0], {}, "another validator set"),
    (
        "a false set inside",
        lambda: replace(GOOD, validator_set=SAME_KEYS_OTHER_STAKES.validator_set),
        {},
        "inside the proof is not the trusted one",
    ),
    ("another chain", lambda: replace(GOOD, domain=replace(GOOD.domain, chain_id=1)), {}, "foreign network: chain 1"),
    ("not enough stake", thin, {}, "not more than two thirds of the stake"),
    (
        "a forged signature",
        lambda: replace(GOOD, certificate=replace(GOOD.certificate, signers=b"\x07")),
        {},
        "forged or damaged",
    ),
    (
        "a changed checkpoint",
        lambda: replace(GOOD, checkpoint=replace(GOOD.checkpoint, time_s=NOW_S)),
        {},
        "another record",
    ),
    (
        "a changed checkpoint and certificate",
        lambda: replace(
            GOOD,
            checkpoint=replace(GOOD.checkpoint, time_s=NOW_S),
            certificate=replace(
                GOOD.certificate,
                signing_root=compute_signing_root(replace(GOOD.checkpoint, time_s=NOW_S), NETWORK.domain),
            ),
        ),
        {},
        "forged or damaged",
    ),
    ("a better item", lambda: replace(GOOD, item=replace(GOOD.item, trust=910)), {}, "does not lead"),
    ("an item that is not in the tree", lambda: replace(PROOFS[0], item=PROOFS[1].item), {}, "does not lead"),
    ("a proof cut short", lambda: replace(GOOD, proof=GOOD.proof[:-1]), {}, "does not lead"),
    ("an empty tree", lambda: resign(GOOD, feed_root=EMPTY_ROOT), {}, "empty tree"),
    ("an item of another epoch", lambda: resign(GOOD, epoch=8), {}, "of another epoch"),
    ("an item of another time", lambda: resign(GOOD, time_s=NOW_S), {}, "of another epoch"),
]


@pytest.mark.parametrize(("name", "build", "changes", "sentence"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refuses(name: str, build: Callable[[], FeedProof], changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(VerificationFailed, match=sentence):
        verify(parse_feed_proof(build().encode()), **changes)


def test_accepts_the_last_second_and_a_clock_that_is_slightly_behind() -> None:
    assert verify(GOOD, max_age_s=100)
    assert verify(GOOD, now_s=NOW_S - 100 - MAX_CLOCK_SKEW_S, max_age_s=0)


@pytest.mark.parametrize("max_age_s", [-1, 1.5, True, None, "60"])
def test_refuses_an_age_that_is_not_whole_seconds(max_age_s: object) -> None:
    with pytest.raises(InvalidInput, match="max_age_s"):
        verify(GOOD, max_age_s=max_age_s)


def test_the_age_has_no_default() -> None:
    with pytest.raises(TypeError, match="max_age_s"):
        verify_feed_proof(GOOD, TRUSTED, now_s=NOW_S)  # type: ignore[call-arg]


def rewritten(**changes: object) -> bytes:
    value = {**GOOD.to_json(), **changes}
    return canonical.encode({key: field for key, field in value.items() if field is not None})  # type: ignore[misc]


REFUSED_BYTES: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "not JSON"),
    ("truncated", GOOD.encode()[:-1], "not JSON"),
    ("cut in the middle", GOOD.encode()[:1000], "not JSON"),
    ("a trailing newline", GOOD.encode() + b"\n", "not canonical"),
    ("a list", b"[]", f"expected an object of kind {FEED_PROOF_KIND}"),
    ("another kind", TRUSTED.encode(), "expected quiver-feed-proof-v1, got quiver-validator-set-v1"),
    ("a later version", rewritten(kind="quiver-feed-proof-v2"), "got quiver-feed-proof-v2"),
    ("no kind", rewritten(kind=None), "got None"),
    ("no certificate", rewritten(certificate=None), "certificate: missing"),
    ("an unknown key", rewritten(comment="hello"), "comment: unknown key"),
    ("an endless proof", rewritten(proof=["0x" + "00" * 32] * 21), "at most 20 digests"),
    ("a short proof step", rewritten(proof=["0x00"]), r"proof\[0\]: expected 32 bytes, got 1"),
    ("upper-case hex", rewritten(proof=["0x" + "AA" * 32]), "lower-case hex"),
    ("a proof that is no list", rewritten(proof={}), "at most 20 digests"),
    ("an item that is no object", rewritten(item=[]), "expected an object of type FeedItem"),
    ("a trust of text", rewritten(item={**GOOD.item.to_json(), "trust": "900"}), "trust: expected an integer"),
    ("a domain without contract", rewritten(domain={"chain_id": 1}), "domain: expected an object with chain_id"),
    (
        "a chain id of text",
        rewritten(domain={"chain_id": "1", "verifying_contract": "0x" + "00" * 20}),
        "chain_id: expected an integer",
    ),
    ("an empty validator set object", rewritten(validator_set={}), "network: missing"),
    ("gigabytes", b" " * (4 * 1024 * 1024 + 1), "over the limit"),
]


@pytest.mark.parametrize(("name", "data", "sentence"), REFUSED_BYTES, ids=[row[0] for row in REFUSED_BYTES])
def test_refuses_bytes(name: str, data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        parse_feed_proof(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    original = GOOD.encode()
    place = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[place]))
    with pytest.raises(OracleError):
        verify(parse_feed_proof(bytes(changed)))


def test_a_validator_set_file_is_read_back() -> None:
    assert parse_validator_set_file(TRUSTED.encode()) == TRUSTED


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a feed proof", GOOD.encode(), "expected quiver-validator-set-v1"),
        ("nothing", b"", "not JSON"),
        ("a set twice", TRUSTED.encode().replace(b'{"domain"', b'{"domain":1,"domain"'), "duplicate key"),
    ],
)
def test_refuses_as_validator_set_file(name: str, data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        parse_validator_set_file(data)
