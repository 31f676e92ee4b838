"""Write the golden vectors again: `make vectors`. The test beside it fails when what is committed differs.

A changed vector is a changed protocol: old signatures, proofs or scores mean something else afterwards. Whoever builds
the oracle's formats in another language checks against these files.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from quiver_oracle.mock import build_mock_item, build_mock_network
from scoring import bls, canonical, records
from scoring.certificate import compute_validator_set_digest
from scoring.eip712 import Domain, Record, compute_signing_root, compute_struct_hash, compute_type_string
from scoring.feed import build_feed
from scoring.feed_index import build_feed_index
from scoring.hashing import keccak256, tagged_digest
from scoring.interval import compute_decay, compute_wilson_high_ppm, compute_wilson_low_ppm
from scoring.measurement import EpochMeasurement, SeatTally, build_epoch_measurement
from scoring.merkle import build_tree, compute_leaf_hash, compute_proof, compute_root
from scoring.records import FeedItem, Flag, Offer, ProbeOutcome, Reveal, ValidatorSet
from scoring.trust import Infraction, TrustParameters, TrustState, compute_feed_item, update_trust_state
from scoring.vrf import compute_vrf_output, compute_vrf_proof

HERE = Path(__file__).parent
DOMAIN = Domain(chain_id=31_337, verifying_contract=keccak256(b"quiver vectors")[-20:])
TIME_S = 1_800_000_000


def main() -> None:
    """Write every file."""
    for name, content in build_files().items():
        (HERE / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")


def build_files() -> dict[str, bytes]:
    """Return the content of every vector file by its name."""
    tables: dict[str, Any] = {
        "records.json": build_records(),
        "canonical.json": build_canonical(),
        "bls.json": build_bls(),
        "merkle.json": build_merkle(),
        "intervals.json": build_intervals(),
        "trust.json": build_trust(),
        "certificate.json": build_certificate(),
    }
    files = {name: (json.dumps(table, indent=1, sort_keys=True) + "\n").encode() for name, table in tables.items()}
    network = build_mock_network(name="vectors")
    proofs = network.publish(_items(), seats=(0, 1, 3))
    files["feed_proof.json"] = proofs[0].encode()
    files["feed_index.json"] = build_feed_index(build_feed(_items()), 7).encode()
    files["validator_set.json"] = network.validator_set_file.encode()
    return files


def build_records() -> dict[str, Any]:
    """Return for every record class its type string and, of one example, JSON, struct hash and signing root."""
    table = {}
    for cls in _record_classes():
        example = build_example(cls)
        table[cls.__name__] = {
            "type_string": compute_type_string(cls),
            "example": example.to_json(),
            "struct_hash": _hex(compute_struct_hash(example)),
            "signing_root": _hex(compute_signing_root(example, DOMAIN)),
        }
    domain = {
        "chain_id": DOMAIN.chain_id,
        "verifying_contract": _hex(DOMAIN.verifying_contract),
        "separator": _hex(DOMAIN.compute_separator()),
    }
    return {"domain": domain, "records": table}


def build_canonical() -> list[dict[str, Any]]:
    """Return values, their canonical bytes and digests."""
    values: list[Any] = [
        None,
        0,
        -(2**53 - 1),
        "",
        'quote " backslash \\ slash / tab \t line \n null \0 del \x7f',
        "é € 😀",
        [],
        {},
        {"b": 1, "a": [True, False, None], "Z": {"é": "ü"}, "aa": -1},
    ]
    return [
        {"value": value, "bytes": _hex(canonical.encode(value)), "keccak256": _hex(keccak256(canonical.encode(value)))}
        for value in values
    ]


def build_bls() -> dict[str, Any]:
    """Return keys, signatures, proofs of possession, an aggregate and VRF outputs."""
    message = keccak256(b"message")
    secret_keys = [bls.key_gen(tagged_digest("quiver-vectors", bytes([seat]))) for seat in range(4)]
    signatures = [bls.sign(secret_key, message) for secret_key in secret_keys]
    signers = [
        {
            "secret_key": _hex(secret_key),
            "public_key": _hex(bls.sk_to_pk(secret_key)),
            "signature": _hex(signature),
            "proof_of_possession": _hex(bls.pop_prove(secret_key)),
            "vrf_proof": _hex(compute_vrf_proof(secret_key, message)),
            "vrf_output": _hex(compute_vrf_output(compute_vrf_proof(secret_key, message))),
        }
        for secret_key, signature in zip(secret_keys, signatures, strict=True)
    ]
    return {"message": _hex(message), "signers": signers, "aggregate": _hex(bls.aggregate(signatures))}


def build_merkle() -> list[dict[str, Any]]:
    """Return trees of several sizes with the proof of every leaf."""
    table = []
    for count in (0, 1, 2, 3, 4, 5, 8, 13):
        leaves = [keccak256(bytes([number])) for number in range(count)]
        tree = build_tree([compute_leaf_hash(leaf) for leaf in leaves]) if leaves else []
        table.append(
            {
                "leaves": [_hex(leaf) for leaf in leaves],
                "tree": [_hex(node) for node in tree],
                "root": _hex(compute_root(leaves)),
                "proofs": [[_hex(step) for step in compute_proof(leaves, index)] for index in range(count)],
            }
        )
    return table


def build_intervals() -> dict[str, Any]:
    """Return Wilson bounds and decay weights."""
    cases = [
        (p, n, z) for p in (0, 1, 500_000, 990_000, 10**6) for n in (0, 10**6, 48 * 10**6) for z in (0, 1645, 2576)
    ]
    return {
        "wilson": [
            {
                "mean_ppm": p,
                "samples_micro": n,
                "z_milli": z,
                "low_ppm": compute_wilson_low_ppm(p, n, z),
                "high_ppm": compute_wilson_high_ppm(p, n, z),
            }
            for p, n, z in cases
        ],
        "decay": [
            {"epochs": epochs, "half_life_epochs": half_life, "weight": compute_decay(epochs, half_life)}
            for epochs in (0, 1, 7, 720)
            for half_life in (1, 7, 720)
        ],
    }


def build_trust() -> dict[str, Any]:
    """Return two epochs of reveals folded into a state, and the items for several infractions."""
    validator_set = build_mock_network(name="vectors").validator_set
    parameters = TrustParameters(half_life_epochs=10)
    offer = _offer()
    state = None
    steps = []
    for epoch in (3, 5):
        reveals = [_reveal(validator_set, seat, epoch, offer) for seat in range(4)]
        measurement = build_epoch_measurement(reveals, validator_set, offer, epoch, parameters)
        state = update_trust_state(state, measurement, parameters)
        steps.append(
            {
                "reveals": [reveal.to_json() for reveal in reveals],
                "measurement": measurement.to_json(),
                "state": state.to_json(),
                "state_digest": _hex(compute_struct_hash(state)),
            }
        )
    assert state is not None
    items = [
        compute_feed_item(state, offer, 6, TIME_S, infractions, flags, parameters).to_json()
        for infractions, flags in (
            ((), Flag(0)),
            ((Infraction.MINOR,), Flag.CHALLENGE_OPEN),
            ((Infraction.MAJOR,), Flag.CASE_OPEN),
            ((Infraction.BANNED,), Flag(0)),
        )
    ]
    return {
        "parameters": parameters.to_json(),
        "offer": offer.to_json(),
        "validator_set": validator_set.to_json(),
        "epochs": steps,
        "items": items,
    }


def build_certificate() -> dict[str, Any]:
    """Return the certificate over one checkpoint and what it is checked against."""
    network = build_mock_network(name="vectors")
    proof = network.publish(_items(), seats=(0, 1, 3))[0]
    return {
        "secret_keys": [_hex(secret_key) for secret_key in network.secret_keys],
        "validator_set_digest": _hex(compute_validator_set_digest(network.validator_set)),
        "signing_root": _hex(compute_signing_root(proof.checkpoint, network.domain)),
        "seats": [0, 1, 3],
        "certificate": proof.certificate.to_json(),
    }


def build_example(cls: type[Record], name: str = "") -> Any:
    """Return a record whose every field is derived from its name; lists have two items, or three of bytes."""
    if cls is TrustParameters:
        return TrustParameters()
    hints = get_type_hints(cls, include_extras=True)
    values = {field.name: _value(hints[field.name], f"{name}{cls.__name__}.{field.name}") for field in fields(cls)}
    if cls is ProbeOutcome:
        values |= {"reason": "", "similarity_ppm": 750_000, "statistics_ppm": (12_345, 678)}
    if cls is FeedItem:
        values |= {"trust_low": 801, "trust": 850, "trust_high": 907}
    if cls is Reveal:
        values["outcomes"] = tuple(sorted(values["outcomes"], key=lambda outcome: outcome.provider))
    return cls(**values)


def _value(hint: Any, name: str) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], f"{name}[{index}]") for index in range(2))
    if isinstance(hint, type) and issubclass(hint, Record):
        return build_example(hint, name)
    sol = hint.__metadata__[0]
    seed = keccak256(name.encode())
    number = int.from_bytes(seed, "big")
    length = {"address": 20, "bytes32": 32}.get(sol.name, sol.length or 5)
    return {
        "bool": number % 2 == 1,
        "uint64": number % 1_000_000,
        "uint256": number,
        "string": f"é {name}",
    }.get(sol.name, (seed * 3)[:length])


def _record_classes() -> list[type[Record]]:
    found = [cls for cls in vars(records).values() if isinstance(cls, type) and issubclass(cls, Record)]
    found = [cls for cls in found if cls is not Record]
    return sorted([*found, EpochMeasurement, SeatTally, TrustParameters, TrustState], key=lambda cls: cls.__name__)


def _items() -> list[FeedItem]:
    providers = [keccak256(bytes([number]))[-20:] for number in range(5)]
    return [
        build_mock_item(provider, epoch=7, time_s=TIME_S, trust=500 + 70 * i) for i, provider in enumerate(providers)
    ]


def _offer() -> Offer:
    example: Offer = build_example(Offer)
    return example


def _reveal(validator_set: ValidatorSet, seat: int, epoch: int, offer: Offer) -> Reveal:
    digest = compute_struct_hash(offer)
    outcomes = []
    for index in range(4):
        noise = int.from_bytes(keccak256(bytes([seat, epoch, index])), "big")
        is_fault = noise % 7 == 0
        outcomes.append(
            ProbeOutcome(
                provider=offer.provider,
                offer_digest=digest,
                index=index,
                reason="timeout" if is_fault else "",
                is_provider_fault=is_fault,
                transcript_digest=records.ZERO_DIGEST if is_fault else keccak256(b"transcript"),
                ttft_ms=50 + noise % 900,
                latency_ms=1_000 + noise % 4_000,
                output_tokens=0 if is_fault else 48,
                statistics_ppm=() if is_fault else (noise % 60_000, noise % 1_000),
                has_similarity=not is_fault and index % 2 == 0,
                similarity_ppm=800_000 if not is_fault and index % 2 == 0 else 0,
            )
        )
    return Reveal(
        validator=validator_set.validators[seat].address,
        epoch=epoch,
        salt=keccak256(bytes([seat, epoch])),
        vrf_proof=bytes(96),
        outcomes=tuple(outcomes),
    )


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


if __name__ == "__main__":
    main()
