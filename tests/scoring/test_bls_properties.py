"""What holds for all keys and messages: round trips, single bits, any order, and both backends alike."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoring import _bls_py_ecc, _bls_pyblst
from scoring._bls_scheme import SUBGROUP_ORDER, Scheme
from scoring.errors import InvalidInput

FAST, REFERENCE = Scheme(_bls_pyblst), Scheme(_bls_py_ecc)
# The reference takes a third of a second for one verification.
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
costly = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])

secret_keys = st.one_of(
    st.integers(1, 10), st.integers(1, SUBGROUP_ORDER - 1), st.integers(SUBGROUP_ORDER - 10, SUBGROUP_ORDER - 1)
).map(lambda scalar: scalar.to_bytes(32, "big"))
messages = st.binary(max_size=200)
# A few keys and messages, so that both repeat.
jobs = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2)), min_size=1, max_size=8)


def encodings(width: int) -> st.SearchStrategy[bytes]:
    """Bytes that get past the first checks often: any flags, any x, and x near zero and near the field's modulus."""
    modulus = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
    x = st.one_of(st.integers(0, 20), st.integers(modulus - 10, modulus + 3), st.integers(0, modulus - 1))
    halves = st.lists(x, min_size=width // 48, max_size=width // 48)
    flags = st.sampled_from([0x80, 0xA0, 0xC0, 0xE0, 0x00, 0x20, 0x40, 0x60])
    packed = halves.map(lambda values: b"".join(value.to_bytes(48, "big") for value in values))
    return st.one_of(
        st.builds(lambda flag, body: bytes([body[0] | flag]) + body[1:], flags, packed),
        st.binary(min_size=width, max_size=width),
    )


def flip(encoded: bytes, bit: int) -> bytes:
    changed = bytearray(encoded)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def build_job(job: tuple[int, int]) -> tuple[bytes, bytes, bytes]:
    """Return key, message and signature of a small numbered job."""
    sk, message = job[0].to_bytes(32, "big"), bytes([job[1]])
    return FAST.sk_to_pk(sk), message, FAST.sign(sk, message)


@quick
@given(sk=secret_keys, message=messages)
def test_what_is_signed_verifies_and_is_nobody_elses(sk: bytes, message: bytes) -> None:
    pk, signature = FAST.sk_to_pk(sk), FAST.sign(sk, message)
    assert FAST.key_validate(pk) and (len(pk), len(signature)) == (48, 96)
    assert FAST.verify(pk, message, signature)
    assert not FAST.verify(pk, message + b"\x00", signature)
    other = FAST.sk_to_pk((int.from_bytes(sk, "big") % (SUBGROUP_ORDER - 1) + 1).to_bytes(32, "big"))
    assert not FAST.verify(other, message, signature)


@quick
@given(sk=secret_keys, message=st.binary(min_size=1, max_size=40), data=st.data())
def test_one_wrong_bit_anywhere_is_noticed(sk: bytes, message: bytes, data: st.DataObject) -> None:
    pk, signature = FAST.sk_to_pk(sk), FAST.sign(sk, message)
    bit = data.draw(st.integers(0, 8 * (48 + len(message) + 96) - 1))
    changed = flip(pk + message + signature, bit)
    parts = changed[:48], changed[48:-96], changed[-96:]
    assert not FAST.verify(*parts)
    assert not FAST.batch_verify([(pk, message, signature), parts])


@quick
@given(jobs=jobs, data=st.data())
def test_the_order_of_an_aggregate_does_not_matter_and_a_missing_part_does(
    jobs: list[tuple[int, int]], data: st.DataObject
) -> None:
    items = [build_job(job) for job in jobs]
    shuffled = data.draw(st.permutations(items))
    whole = FAST.aggregate([signature for _, _, signature in items])
    assert whole == FAST.aggregate([signature for _, _, signature in shuffled])
    pks, texts = [pk for pk, _, _ in shuffled], [message for _, message, _ in shuffled]
    assert FAST.aggregate_verify(pks, texts, whole)
    assert not FAST.aggregate_verify(pks[1:], texts[1:], whole)


@quick
@given(jobs=jobs, data=st.data())
def test_a_batch_verifies_exactly_when_every_item_does(jobs: list[tuple[int, int]], data: st.DataObject) -> None:
    items = [build_job(job) for job in jobs]
    signatures = data.draw(st.permutations([signature for _, _, signature in items]))
    mixed = [(pk, message, signature) for (pk, message, _), signature in zip(items, signatures, strict=True)]
    assert FAST.batch_verify(items, entropy=data.draw(messages))
    assert FAST.batch_verify(mixed) is all(FAST.verify(*item) for item in mixed)


@quick
@given(ikm=st.binary(min_size=32, max_size=80))
def test_derived_keys_are_usable_and_their_own(ikm: bytes) -> None:
    sk = FAST.key_gen(ikm)
    assert sk == FAST.key_gen(ikm) != FAST.key_gen(ikm + b"\x00")
    assert FAST.pop_verify(FAST.sk_to_pk(sk), FAST.pop_prove(sk))


@costly
@given(sk=secret_keys, message=messages)
def test_both_backends_derive_sign_and_prove_the_same_bytes(sk: bytes, message: bytes) -> None:
    assert FAST.sk_to_pk(sk) == REFERENCE.sk_to_pk(sk)
    assert FAST.sign(sk, message) == REFERENCE.sign(sk, message)
    assert FAST.pop_prove(sk) == REFERENCE.pop_prove(sk)


@quick
@given(encoded=encodings(48))
def test_both_backends_take_the_same_keys(encoded: bytes) -> None:
    assert FAST.key_validate(encoded) is REFERENCE.key_validate(encoded)


@quick
@given(encoded=encodings(96))
def test_both_backends_take_the_same_signatures(encoded: bytes) -> None:
    assert outcome(FAST, encoded) == outcome(REFERENCE, encoded)


def outcome(scheme: Scheme, encoded: bytes) -> bytes | str:
    """Return the aggregate of the one signature, or the words of the refusal."""
    try:
        return scheme.aggregate([encoded])
    except InvalidInput as refusal:
        return str(refusal)


@pytest.mark.slow
@costly
@given(jobs=jobs.filter(lambda jobs: len(jobs) < 5), data=st.data())
def test_both_backends_judge_aggregates_and_batches_alike(jobs: list[tuple[int, int]], data: st.DataObject) -> None:
    items = [build_job(job) for job in jobs]
    signatures = data.draw(st.permutations([signature for _, _, signature in items]))
    mixed = [(pk, message, signature) for (pk, message, _), signature in zip(items, signatures, strict=True)]
    whole = FAST.aggregate(signatures)
    pks = [pk for pk, _, _ in items]
    assert REFERENCE.aggregate(signatures) == whole
    assert REFERENCE.batch_verify(mixed) is FAST.batch_verify(mixed)
    assert REFERENCE.fast_aggregate_verify(pks, b"\x01", whole) is FAST.fast_aggregate_verify(pks, b"\x01", whole)
    assert REFERENCE.aggregate_verify(pks, [message for _, message, _ in items], whole)


def test_the_signatures_of_one_key_are_all_different() -> None:
    signatures = sorted(FAST.sign(bytes(31) + b"\x09", bytes([number])) for number in range(50))
    assert all(first != second for first, second in pairwise(signatures))
