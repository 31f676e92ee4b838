"""Both backends give the same answer to named hostile inputs, and it is never an exception."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from py_ecc.bls.g2_primitives import G1_to_pubkey, G2_to_signature, pubkey_to_G1, signature_to_G2
from py_ecc.optimized_bls12_381 import add, is_inf, multiply

from scoring import _bls_py_ecc, _bls_pyblst
from scoring._bls_scheme import SIGNATURE_DST, SUBGROUP_ORDER, Scheme
from scoring.errors import InvalidInput

SCHEMES = {"pyblst": Scheme(_bls_pyblst), "py_ecc": Scheme(_bls_py_ecc)}
FAST = SCHEMES["pyblst"]

MESSAGE = b"epoch 7"
SK, OTHER_SK = bytes(31) + b"\x07", bytes(31) + b"\x0b"
NEGATED_SK = (SUBGROUP_ORDER - 7).to_bytes(32, "big")
PK, OTHER_PK, NEGATED_PK = FAST.sk_to_pk(SK), FAST.sk_to_pk(OTHER_SK), FAST.sk_to_pk(NEGATED_SK)
SIGNATURE, OTHER_SIGNATURE = FAST.sign(SK, MESSAGE), FAST.sign(OTHER_SK, MESSAGE)
AGGREGATE = FAST.aggregate([SIGNATURE, OTHER_SIGNATURE])
INFINITY_G1, INFINITY_G2 = b"\xc0" + bytes(47), b"\xc0" + bytes(95)

# The cofactors of the curve and of its twist: how many times r points there are.
COFACTOR_G1 = 0x396C8C005555E1568C00AAAB0000AAAB
COFACTOR_G2 = int(
    "5d543a95414e7f1091d50792876a202cd91de4547085abaa68a205b2e5a7ddfa628f1cb4d9e82ef21537e293a6691ae1616ec6e786f0c70c"
    "f1c38e31c7238e5",
    16,
)


def build_torsion_point(decode: Callable[[bytes], Any], width: int, scalar: int) -> Any:
    """Return the first point with a small x whose multiple by `scalar` is not infinity: its order divides the rest."""
    for x in range(1, 200):
        try:
            point = multiply(decode(b"\x80" + x.to_bytes(width - 1, "big")), scalar)
        except ValueError:
            continue
        if not is_inf(point):
            return point
    raise AssertionError("no such point")


# On the curve and outside the subgroup. A pairing does not see the first: its final power takes order 11 to one.
ORDER_11 = build_torsion_point(pubkey_to_G1, 48, SUBGROUP_ORDER * COFACTOR_G1 // 121)
ORDER_13 = build_torsion_point(signature_to_G2, 96, SUBGROUP_ORDER * COFACTOR_G2 // 169)
TORSION_PK, TORSION_SIGNATURE = G1_to_pubkey(ORDER_11), G2_to_signature(ORDER_13)
SHIFTED_PK = G1_to_pubkey(add(pubkey_to_G1(PK), ORDER_11))
SHIFTED_SIGNATURE = G2_to_signature(add(signature_to_G2(SIGNATURE), ORDER_13))


class Nasty(bytes):
    """Bytes whose every method lies or fails."""

    def __len__(self) -> int:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __getitem__(self, index: Any) -> Any:
        raise RuntimeError

    def __iter__(self) -> Any:
        raise RuntimeError

    def __bytes__(self) -> bytes:
        return b""


class Impostor:
    """Claims to be bytes, and is not."""

    __class__ = bytes  # type: ignore[assignment]


RELEASED = memoryview(PK)
RELEASED.release()


def flip(encoded: bytes, bit: int) -> bytes:
    """Return the bytes with one bit inverted, counted from the first."""
    changed = bytearray(encoded)
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)


BAD_KEYS: dict[str, Any] = {
    "none": None,
    "a number": 7,
    "a string": PK.hex(),
    "a bytearray": bytearray(PK),
    "a memoryview": memoryview(PK),
    "an impostor": Impostor(),
    "empty": b"",
    "a byte short": PK[:-1],
    "a byte long": PK + b"\x00",
    "uncompressed, 96 bytes": PK + PK,
    "all zero": bytes(48),
    "all ones": b"\xff" * 48,
    "infinity": INFINITY_G1,
    "infinity with the sign flag": b"\xe0" + bytes(47),
    "infinity without the compression flag": b"\x40" + bytes(47),
    "infinity and a stray last bit": INFINITY_G1[:-1] + b"\x01",
    "infinity and a stray first bit": b"\xd0" + bytes(47),
    "the infinity flag on a good key": flip(PK, 1),
    "no compression flag": flip(PK, 0),
    "all three flags": bytes([PK[0] | 0xE0]) + PK[1:],
    "x is zero, order 3": b"\x80" + bytes(47),
    "x is zero, order 3, other sign": b"\xa0" + bytes(47),
    "of order 11": TORSION_PK,
    "a good key plus a point of order 11": SHIFTED_PK,
    "a signature": SIGNATURE,
}

BAD_SIGNATURES: dict[str, Any] = {
    "none": None,
    "a number": 7,
    "a string": SIGNATURE.hex(),
    "a bytearray": bytearray(SIGNATURE),
    "an impostor": Impostor(),
    "empty": b"",
    "a byte short": SIGNATURE[:-1],
    "a byte long": SIGNATURE + b"\x00",
    "a public key": PK,
    "all zero": bytes(96),
    "all ones": b"\xff" * 96,
    "infinity": INFINITY_G2,
    "infinity with the sign flag": b"\xe0" + bytes(95),
    "infinity without the compression flag": b"\x40" + bytes(95),
    "infinity and a stray bit": INFINITY_G2[:-1] + b"\x01",
    "infinity and a flag in the second half": INFINITY_G2[:48] + b"\xc0" + bytes(47),
    "the compression flag in the second half": flip(SIGNATURE, 384),
    "the infinity flag in the second half": flip(SIGNATURE, 385),
    "the sign flag in the second half": flip(SIGNATURE, 386),
    "no compression flag": flip(SIGNATURE, 0),
    "the infinity flag": flip(SIGNATURE, 1),
    "halves exchanged": SIGNATURE[48:] + SIGNATURE[:48],
    "x is zero": b"\x80" + bytes(95),
    "of order 13": TORSION_SIGNATURE,
    "a good signature plus a point of order 13": SHIFTED_SIGNATURE,
    "negated": flip(SIGNATURE, 2),
    "by another key": OTHER_SIGNATURE,
    "of another message": FAST.sign(SK, MESSAGE + b"!"),
    "the proof of possession": FAST.pop_prove(SK),
}

BAD_MESSAGES: dict[str, Any] = {"none": None, "a number": 0, "a string": "epoch 7", "a bytearray": bytearray(MESSAGE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call and the answer that both backends must give."""

    operation: str
    arguments: tuple[Any, ...]
    answer: bool = False


CASES = {
    "fast: no keys": Case(operation="fast_aggregate_verify", arguments=([], MESSAGE, SIGNATURE)),
    "fast: no keys, infinity": Case(operation="fast_aggregate_verify", arguments=([], MESSAGE, INFINITY_G2)),
    "fast: keys are none": Case(operation="fast_aggregate_verify", arguments=(None, MESSAGE, SIGNATURE)),
    "fast: keys are one key": Case(operation="fast_aggregate_verify", arguments=(PK, MESSAGE, SIGNATURE)),
    "fast: keys are a set": Case(operation="fast_aggregate_verify", arguments=({PK}, MESSAGE, SIGNATURE)),
    "fast: keys are a generator": Case(operation="fast_aggregate_verify", arguments=(iter([PK]), MESSAGE, SIGNATURE)),
    "fast: keys are an endless range": Case(
        operation="fast_aggregate_verify", arguments=(range(10**30), MESSAGE, SIGNATURE)
    ),
    "fast: keys are a deque": Case(operation="fast_aggregate_verify", arguments=(deque([PK]), MESSAGE, SIGNATURE)),
    "fast: keys are released memory": Case(operation="fast_aggregate_verify", arguments=(RELEASED, MESSAGE, SIGNATURE)),
    "fast: infinity among the keys": Case(
        operation="fast_aggregate_verify", arguments=([PK, INFINITY_G1], MESSAGE, SIGNATURE)
    ),
    "fast: a shifted key among them": Case(
        operation="fast_aggregate_verify", arguments=([SHIFTED_PK, OTHER_PK], MESSAGE, AGGREGATE)
    ),
    "fast: keys cancel, signature at infinity": Case(
        operation="fast_aggregate_verify", arguments=([PK, NEGATED_PK], MESSAGE, INFINITY_G2)
    ),
    "fast: keys cancel, other signature": Case(
        operation="fast_aggregate_verify", arguments=([PK, NEGATED_PK], MESSAGE, SIGNATURE)
    ),
    "fast: two of three cancel": Case(
        operation="fast_aggregate_verify", arguments=([PK, OTHER_PK, NEGATED_PK], MESSAGE, OTHER_SIGNATURE), answer=True
    ),
    "fast: a key listed twice, signed once": Case(
        operation="fast_aggregate_verify", arguments=([PK, PK], MESSAGE, SIGNATURE)
    ),
    "fast: a key listed twice, signed twice": Case(
        operation="fast_aggregate_verify", arguments=([PK, PK], MESSAGE, FAST.aggregate([SIGNATURE] * 2)), answer=True
    ),
    "fast: a signer missing": Case(operation="fast_aggregate_verify", arguments=([PK], MESSAGE, AGGREGATE)),
    "fast: tuples do": Case(
        operation="fast_aggregate_verify", arguments=((PK, OTHER_PK), MESSAGE, AGGREGATE), answer=True
    ),
    "fast: a message that is none": Case(operation="fast_aggregate_verify", arguments=([PK], None, SIGNATURE)),
    "aggregate: nothing": Case(operation="aggregate_verify", arguments=([], [], SIGNATURE)),
    "aggregate: nothing, infinity": Case(operation="aggregate_verify", arguments=([], [], INFINITY_G2)),
    "aggregate: a message too many": Case(
        operation="aggregate_verify", arguments=([PK], [MESSAGE, MESSAGE], SIGNATURE)
    ),
    "aggregate: a key too many": Case(operation="aggregate_verify", arguments=([PK, OTHER_PK], [MESSAGE], AGGREGATE)),
    "aggregate: messages are bytes": Case(operation="aggregate_verify", arguments=([PK], b"m", SIGNATURE)),
    "aggregate: messages are a string": Case(operation="aggregate_verify", arguments=([PK], "m", SIGNATURE)),
    "aggregate: keys cancel, signature at infinity": Case(
        operation="aggregate_verify", arguments=([PK, NEGATED_PK], [MESSAGE, MESSAGE], INFINITY_G2)
    ),
    "aggregate: infinity among the keys": Case(
        operation="aggregate_verify", arguments=([PK, INFINITY_G1], [MESSAGE, MESSAGE], SIGNATURE)
    ),
    "aggregate: messages exchanged": Case(
        operation="aggregate_verify",
        arguments=([PK, OTHER_PK], [b"b", b"a"], FAST.aggregate([FAST.sign(SK, b"a"), FAST.sign(OTHER_SK, b"b")])),
    ),
    "aggregate: one message twice": Case(
        operation="aggregate_verify", arguments=([PK, OTHER_PK], [MESSAGE, MESSAGE], AGGREGATE), answer=True
    ),
    "batch: nothing": Case(operation="batch_verify", arguments=([],)),
    "batch: none": Case(operation="batch_verify", arguments=(None,)),
    "batch: a number": Case(operation="batch_verify", arguments=([7],)),
    "batch: a pair": Case(operation="batch_verify", arguments=([(PK, MESSAGE)],)),
    "batch: a string": Case(operation="batch_verify", arguments=(["abc"],)),
    "batch: entropy is a number": Case(operation="batch_verify", arguments=([(PK, MESSAGE, SIGNATURE)], 7)),
    "batch: one at infinity": Case(operation="batch_verify", arguments=([(PK, MESSAGE, INFINITY_G2)],)),
    "batch: key at infinity": Case(operation="batch_verify", arguments=([(INFINITY_G1, MESSAGE, INFINITY_G2)],)),
    "batch: signatures exchanged": Case(
        operation="batch_verify", arguments=([(PK, MESSAGE, OTHER_SIGNATURE), (OTHER_PK, MESSAGE, SIGNATURE)],)
    ),
    "batch: a good one twice": Case(operation="batch_verify", arguments=([(PK, MESSAGE, SIGNATURE)] * 2,), answer=True),
    "batch: lists do": Case(operation="batch_verify", arguments=([[PK, MESSAGE, SIGNATURE]], b"entropy"), answer=True),
    "possession: a signature of the key": Case(operation="pop_verify", arguments=(PK, FAST.sign(SK, PK))),
    "possession: of another key": Case(operation="pop_verify", arguments=(OTHER_PK, FAST.pop_prove(SK))),
    "possession: infinity": Case(operation="pop_verify", arguments=(INFINITY_G1, INFINITY_G2)),
    "possession: as a signature": Case(operation="verify", arguments=(PK, PK, FAST.pop_prove(SK))),
    "possession: the true proof": Case(operation="pop_verify", arguments=(PK, FAST.pop_prove(SK)), answer=True),
    "verify: the true signature": Case(operation="verify", arguments=(PK, MESSAGE, SIGNATURE), answer=True),
    "verify: bytes with nasty methods": Case(
        operation="verify", arguments=(Nasty(PK), Nasty(MESSAGE), Nasty(SIGNATURE)), answer=True
    ),
    "verify: the empty message": Case(operation="verify", arguments=(PK, b"", FAST.sign(SK, b"")), answer=True),
}


@pytest.fixture(scope="module", params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> Scheme:
    return SCHEMES[request.param]


def test_a_key_outside_the_subgroup_would_pass_if_it_were_not_checked() -> None:
    assert is_inf(multiply(ORDER_11, 11)) and is_inf(multiply(ORDER_13, 13))
    pair = (pubkey_to_G1(SHIFTED_PK), _bls_py_ecc.hash_to_g2(MESSAGE, SIGNATURE_DST))
    assert _bls_py_ecc.is_pairing_product_equal([pair], signature_to_G2(SIGNATURE))


@pytest.mark.parametrize("name", BAD_KEYS)
def test_no_check_takes_a_key_that_is(scheme: Scheme, name: str) -> None:
    key = BAD_KEYS[name]
    answers = [
        scheme.key_validate(key),
        scheme.verify(key, MESSAGE, SIGNATURE),
        scheme.verify(key, MESSAGE, INFINITY_G2),
        scheme.fast_aggregate_verify([OTHER_PK, key], MESSAGE, AGGREGATE),
        scheme.aggregate_verify([key], [MESSAGE], SIGNATURE),
        scheme.batch_verify([(key, MESSAGE, SIGNATURE)]),
        scheme.pop_verify(key, SIGNATURE),
    ]
    assert answers == [False] * 7


@pytest.mark.parametrize("name", BAD_SIGNATURES)
def test_verify_takes_no_signature_that_is(scheme: Scheme, name: str) -> None:
    assert scheme.verify(PK, MESSAGE, BAD_SIGNATURES[name]) is False


@pytest.mark.parametrize("name", BAD_SIGNATURES)
def test_no_check_takes_a_signature_that_is(name: str) -> None:
    signature = BAD_SIGNATURES[name]
    answers = [
        FAST.fast_aggregate_verify([PK], MESSAGE, signature),
        FAST.aggregate_verify([PK], [MESSAGE], signature),
        FAST.batch_verify([(OTHER_PK, MESSAGE, OTHER_SIGNATURE), (PK, MESSAGE, signature)]),
        FAST.pop_verify(OTHER_PK, signature),
    ]
    assert answers == [False] * 4


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_no_check_takes_a_message_that_is(scheme: Scheme, name: str) -> None:
    message = BAD_MESSAGES[name]
    assert scheme.verify(PK, message, SIGNATURE) is False
    assert scheme.aggregate_verify([PK], [message], SIGNATURE) is False
    assert scheme.batch_verify([(PK, message, SIGNATURE)]) is False


@pytest.mark.parametrize("name", CASES)
def test_both_backends_answer_the_named_case_alike(scheme: Scheme, name: str) -> None:
    case = CASES[name]
    assert getattr(scheme, case.operation)(*case.arguments) is case.answer


BAD_SECRET_KEYS: dict[str, Any] = {
    "none": None,
    "a number": 7,
    "a string": "07" * 32,
    "a bytearray": bytearray(SK),
    "empty": b"",
    "a byte short": SK[1:],
    "a byte long": b"\x00" + SK,
    "zero": bytes(32),
    "the order of the subgroup": SUBGROUP_ORDER.to_bytes(32, "big"),
    "one above the order": (SUBGROUP_ORDER + 1).to_bytes(32, "big"),
    "all ones": b"\xff" * 32,
}


@pytest.mark.parametrize("name", BAD_SECRET_KEYS)
def test_refuses_a_secret_key_that_is(scheme: Scheme, name: str) -> None:
    for operation in (scheme.sk_to_pk, scheme.pop_prove, lambda sk: scheme.sign(sk, MESSAGE)):
        with pytest.raises(InvalidInput) as refusal:
            operation(BAD_SECRET_KEYS[name])
        assert refusal.value.field == "sk"


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_refuses_to_sign_a_message_that_is(scheme: Scheme, name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        scheme.sign(SK, BAD_MESSAGES[name])
    assert refusal.value.field == "message"


# These are signatures of something else, or sums that may be asked for: good points, so they can be added.
ADDABLE = {"infinity", "negated", "by another key", "of another message", "the proof of possession"}


@pytest.mark.parametrize("name", [name for name in BAD_SIGNATURES if name not in ADDABLE])
def test_refuses_to_aggregate_a_signature_that_is(scheme: Scheme, name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        scheme.aggregate([SIGNATURE, BAD_SIGNATURES[name]])
    assert refusal.value.field == "signatures"


@pytest.mark.parametrize("signatures", [None, [], (), SIGNATURE, "ab", {SIGNATURE}, range(3), 7], ids=repr)
def test_refuses_to_aggregate_what_is_no_list_of_signatures(scheme: Scheme, signatures: Any) -> None:
    with pytest.raises(InvalidInput):
        scheme.aggregate(signatures)


def test_signatures_that_cancel_aggregate_to_infinity_which_no_check_takes(scheme: Scheme) -> None:
    cancelled = scheme.aggregate([SIGNATURE, flip(SIGNATURE, 2)])
    assert cancelled == INFINITY_G2
    assert scheme.fast_aggregate_verify([PK, NEGATED_PK], MESSAGE, cancelled) is False


@pytest.mark.parametrize("ikm", [None, 7, b"", bytes(31), bytearray(32), "k" * 32], ids=repr)
def test_refuses_to_derive_a_key_from(ikm: Any) -> None:
    with pytest.raises(InvalidInput) as refusal:
        FAST.key_gen(ikm)
    assert refusal.value.field == "ikm"
