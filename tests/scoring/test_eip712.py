"""Typed struct hashing agrees with eth-account on every record class, and malformed records are refused by name."""

from dataclasses import dataclass, fields, replace
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoring import canonical, records
from scoring.canonical import MAX_SAFE_INTEGER
from scoring.eip712 import (
    MAX_BYTES,
    MAX_STRING_BYTES,
    Domain,
    Record,
    Sol,
    Uint64,
    compute_signing_root,
    compute_struct_hash,
    compute_type_string,
    compute_typed_data,
    parse_hex,
    parse_wei,
)
from scoring.errors import InvalidInput
from scoring.hashing import keccak256
from scoring.records import PPM, FeedItem, ProbeOutcome, Reveal, ValidatorEntry, ValidatorSet

DOMAIN = Domain(chain_id=31_337, verifying_contract=b"\xab" * 20)
RECORD_CLASSES = sorted(
    (cls for cls in vars(records).values() if isinstance(cls, type) and issubclass(cls, Record) and cls is not Record),
    key=lambda cls: cls.__name__,
)
printable = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for any value that a record field of this annotation may hold."""
    if get_origin(hint) is tuple:
        return st.lists(values_of(get_args(hint)[0]), max_size=3).map(tuple)
    if isinstance(hint, type) and issubclass(hint, Record):
        return records_of(hint)
    sol: Sol = hint.__metadata__[0]
    exact = {"address": 20, "bytes32": 32}.get(sol.name, sol.length)
    return {
        "bool": st.booleans(),
        "uint64": st.integers(0, MAX_SAFE_INTEGER),
        "uint256": st.integers(0, 2**256 - 1),
        "string": printable,
        "address": st.binary(min_size=exact, max_size=exact),
        "bytes32": st.binary(min_size=exact, max_size=exact),
        "bytes": st.binary(min_size=exact, max_size=exact or 80),
    }[sol.name]


def records_of(cls: type[Record]) -> st.SearchStrategy[Any]:
    """Return a strategy for valid records of a class: its own rules are met by construction."""
    hints = get_type_hints(cls, include_extras=True)
    plain = st.fixed_dictionaries({field.name: values_of(hints[field.name]) for field in fields(cls)})
    return plain.map(lambda values: cls(**_obey_rules(cls, values)))


def _obey_rules(cls: type[Record], values: dict[str, Any]) -> dict[str, Any]:
    if cls is ProbeOutcome:
        statistics = tuple(value % (PPM + 1) for value in values["statistics_ppm"])
        values |= {"statistics_ppm": statistics, "reason": "" if statistics else values["reason"] or "lost"}
        values["similarity_ppm"] %= PPM + 1
    if cls is Reveal:
        unique = {(o.provider, o.offer_digest, o.index): o for o in values["outcomes"]}
        values["outcomes"] = tuple(unique[key] for key in sorted(unique))
    if cls is FeedItem:
        low, trust, high = sorted(values[name] % 1001 for name in ("trust_low", "trust", "trust_high"))
        values |= {"trust_low": low, "trust": trust, "trust_high": high}
    if cls is ValidatorSet:
        seats = tuple(
            replace(entry, address=bytes([i]) * 20, public_key=bytes([i]) * 48, transport_key=bytes([i]) * 32)
            for i, entry in enumerate(values["validators"])
        )
        values["validators"] = seats
    return values


def compute_independently(document: dict[str, Any]) -> bytes:
    """Return what eth-account would sign for a typed-data document."""
    return _hash_eip191_message(encode_typed_data(full_message=document))


@pytest.mark.parametrize("cls", RECORD_CLASSES, ids=lambda cls: cls.__name__)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_eth_account_computes_the_same_digest(cls: type[Record], data: st.DataObject) -> None:
    record = data.draw(records_of(cls))
    domain = data.draw(
        st.builds(Domain, chain_id=st.integers(0, 2**53 - 1), verifying_contract=st.binary(min_size=20, max_size=20))
    )
    assert compute_signing_root(record, domain) == compute_independently(compute_typed_data(record, domain))


@pytest.mark.parametrize("cls", RECORD_CLASSES, ids=lambda cls: cls.__name__)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_record_is_read_back_from_its_bytes(cls: type[Record], data: st.DataObject) -> None:
    record = data.draw(records_of(cls))
    assert cls.decode(record.encode()) == record
    assert compute_struct_hash(cls.decode(record.encode())) == compute_struct_hash(record)


@pytest.mark.parametrize("cls", RECORD_CLASSES, ids=lambda cls: cls.__name__)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_key_is_needed_and_no_other_is_known(cls: type[Record], data: st.DataObject) -> None:
    value = data.draw(records_of(cls)).to_json()
    for key in value:
        with pytest.raises(InvalidInput, match=f"{key}: missing from {cls.__name__}"):
            cls.from_json({name: field for name, field in value.items() if name != key})
    with pytest.raises(InvalidInput, match=f"zzz: unknown key in {cls.__name__}"):
        cls.from_json({**value, "zzz": 1})


def test_the_mail_example_of_the_standard_has_its_published_digest() -> None:
    # The example of EIP-712: https://eips.ethereum.org/EIPS/eip-712 (Example.js), under its own domain name.
    from scoring.eip712 import Address, Text

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Person(Record):
        name: Text
        wallet: Address

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Mail(Record):
        from_: Person

    assert compute_type_string(Person) == "Person(string name,address wallet)"
    assert keccak256(compute_type_string(Person).encode()).hex() == (
        "b9d8c78acf9b987311de6c7b45bb6a9c8e1bf361fa7fd3467a2163f994c79500"
    )
    cow = Person(name="Cow", wallet=bytes.fromhex("cd2a3d9f938e13cd947ec05abc7fe734df8dd826"))
    assert compute_struct_hash(cow).hex() == "fc71e5fa27ff56c350aa531bc129ebdf613b772b6604664f5d8dbe21b85eb0c8"


def test_referenced_structs_follow_in_alphabetical_order() -> None:
    assert compute_type_string(ValidatorSet) == (
        "ValidatorSet(bytes32 network,ValidatorEntry[] validators)"
        "ValidatorEntry(address address,bytes public_key,bytes32 transport_key,uint256 stake_wei)"
    )


def test_another_chain_or_contract_is_another_digest() -> None:
    entry = ValidatorEntry(address=bytes(20), public_key=bytes(48), transport_key=bytes(32), stake_wei=1)
    domains = (
        DOMAIN,
        Domain(chain_id=1, verifying_contract=b"\xab" * 20),
        Domain(chain_id=31_337, verifying_contract=b"\xac" * 20),
    )
    assert len({compute_signing_root(entry, domain) for domain in domains}) == 3


def test_two_record_classes_with_equal_fields_have_different_digests() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class First(Record):
        number: Uint64

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Second(Record):
        number: Uint64

    assert compute_struct_hash(First(number=1)) != compute_struct_hash(Second(number=1))


GOOD_ENTRY: dict[str, Any] = {
    "address": "0x" + "01" * 20,
    "public_key": "0x" + "02" * 48,
    "transport_key": "0x" + "03" * 32,
    "stake_wei": "1000",
}


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("a short address", {"address": "0x" + "01" * 19}, "address: expected 20 bytes, got 19"),
        ("a long address", {"address": "0x" + "01" * 21}, "address: expected 20 bytes, got 21"),
        ("a short key", {"public_key": "0x" + "02" * 47}, "public_key: expected 48 bytes, got 47"),
        ("an empty digest", {"transport_key": "0x"}, "transport_key: expected 32 bytes, got 0"),
        ("hex without 0x", {"address": "01" * 20}, "address: expected hex with 0x"),
        ("hex of odd length", {"address": "0x" + "01" * 19 + "0"}, "address: expected hex with 0x"),
        ("upper-case hex", {"address": "0x" + "AB" * 20}, "address: expected lower-case hex"),
        ("a capital X", {"address": "0X" + "01" * 20}, "address: expected hex with 0x"),
        ("hex with white space", {"address": "0x 1" + "01" * 19}, "address: expected lower-case hex"),
        ("full-width digits", {"address": "0x" + "１" * 40}, "address: expected lower-case hex"),
        ("a number for bytes", {"address": 1}, "address: expected hex"),
        ("null for bytes", {"address": None}, "address: expected hex"),
        ("wei as a number", {"stake_wei": 1000}, "stake_wei: expected wei as a decimal string"),
        ("negative wei", {"stake_wei": "-1"}, "stake_wei: expected wei"),
        ("wei with a sign", {"stake_wei": "+1"}, "stake_wei: expected wei"),
        ("wei with a leading zero", {"stake_wei": "01"}, "stake_wei: decimal string with a leading zero"),
        ("wei in hex", {"stake_wei": "0x10"}, "stake_wei: expected wei"),
        ("wei with an underscore", {"stake_wei": "1_000"}, "stake_wei: expected wei"),
        ("wei in Arabic digits", {"stake_wei": "١"}, "stake_wei: expected wei"),
        ("wei in superscript", {"stake_wei": "²"}, "stake_wei: expected wei"),
        ("wei of 79 digits", {"stake_wei": "1" * 79}, "stake_wei: expected wei"),
        ("wei of 2**256", {"stake_wei": str(2**256)}, "stake_wei: .* is outside"),
        ("no wei", {"stake_wei": ""}, "stake_wei: expected wei"),
    ],
)
def test_refuses_fields(name: str, changes: dict[str, Any], sentence: str) -> None:
    assert ValidatorEntry.from_json(GOOD_ENTRY).stake_wei == 1000
    with pytest.raises(InvalidInput, match=sentence):
        ValidatorEntry.from_json({**GOOD_ENTRY, **changes})


@pytest.mark.parametrize("value", [None, [], "record", 1, True])
def test_refuses_what_is_no_object(value: object) -> None:
    with pytest.raises(InvalidInput, match="expected an object of type ValidatorEntry"):
        ValidatorEntry.from_json(value)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("true for an integer", {"epoch": True}, "epoch: expected an integer"),
        ("a float for an integer", {"epoch": 1.0}, "epoch: expected an integer"),
        ("a string for an integer", {"epoch": "1"}, "epoch: expected an integer"),
        ("a negative integer", {"epoch": -1}, "epoch: -1 is outside"),
        ("an unsafe integer", {"epoch": 2**53}, "epoch: 9007199254740992 is outside"),
        ("a list for a tuple", {"outcomes": []}, "outcomes: expected at most"),
        ("another record in the tuple", {"outcomes": (DOMAIN,)}, r"outcomes\[0\]: expected ProbeOutcome"),
        ("bytes of another length", {"salt": b""}, "salt: expected 32 bytes, got 0"),
        ("a bytearray", {"salt": bytearray(32)}, "salt: expected bytes"),
    ],
)
def test_refuses_to_construct(name: str, changes: dict[str, Any], sentence: str) -> None:
    good = Reveal(validator=bytes(20), epoch=1, salt=bytes(32), vrf_proof=bytes(96), outcomes=())
    with pytest.raises(InvalidInput, match=sentence):
        replace(good, **changes)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("too long", "a" * (MAX_STRING_BYTES + 1), "over 4096 bytes"),
        ("too long in UTF-8", "é" * (MAX_STRING_BYTES // 2 + 1), "over 4096 bytes"),
        ("a null byte", "a\0b", "control characters"),
        ("an escape sequence", "\x1b[31mred", "control characters"),
        ("an escape sequence after a line break", "a\n\x1b[31mred", "control characters"),
        ("a lone surrogate", "\ud800", "control characters"),
        ("a lone surrogate after a line break", "a\n\ud800", "control characters"),
        ("bytes", b"text", "expected a string"),
    ],
)
def test_refuses_texts(name: str, text: Any, sentence: str) -> None:
    item = records.SlashingEvidence(
        provider=bytes(20),
        offer_digest=bytes(32),
        rule="rule",
        case_index=1,
        first_epoch=1,
        last_epoch=1,
        checkpoint=bytes(32),
        plan_digest=bytes(32),
        bundle_digest=bytes(32),
        threshold=1,
        slash_bps=1,
    )
    with pytest.raises(InvalidInput, match=sentence):
        replace(item, rule=text)


def test_refuses_open_ended_bytes_over_the_limit() -> None:
    with pytest.raises(InvalidInput, match=f"signers: over {MAX_BYTES} bytes"):
        records.Certificate(
            signing_root=bytes(32), validator_set_digest=bytes(32), signers=bytes(MAX_BYTES + 1), signature=bytes(96)
        )


def test_a_nested_refusal_names_the_whole_path() -> None:
    value = {"network": "0x" + "00" * 32, "validators": [GOOD_ENTRY, {**GOOD_ENTRY, "address": "0x"}]}
    with pytest.raises(InvalidInput, match=r"validators\[1\]: address: expected 20 bytes"):
        ValidatorSet.from_json(value)


@pytest.mark.parametrize("chain_id", [-1, 2**53, "1", True, 1.0])
def test_refuses_chain_ids(chain_id: Any) -> None:
    with pytest.raises(InvalidInput, match="chain_id"):
        Domain(chain_id=chain_id, verifying_contract=bytes(20))


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_hex_is_read_back(data: bytes) -> None:
    assert parse_hex("0x" + data.hex(), "field") == data


@settings(deadline=None)
@given(st.integers(0, 2**256 - 1))
def test_wei_is_read_back(amount_wei: int) -> None:
    assert parse_wei(str(amount_wei), "field") == amount_wei


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([f.name for f in fields(FeedItem)]), inner)
        ),
        max_leaves=25,
    )
)
def test_garbage_is_refused_and_never_crashes(value: Any) -> None:
    for cls in RECORD_CLASSES:
        with pytest.raises(InvalidInput):
            cls.from_json(value)


def test_typed_data_is_plain_json() -> None:
    document = compute_typed_data(ValidatorEntry.from_json(GOOD_ENTRY), DOMAIN)
    assert canonical.decode(canonical.encode(document)) == document
