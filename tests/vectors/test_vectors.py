"""The committed golden vectors are what the code computes today, and hold by independent means."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data

from quiver_oracle import parse_feed_proof, parse_validator_set_file, verify_feed_proof
from scoring import records
from scoring.eip712 import compute_typed_data

HERE = Path(__file__).parent


def load_generator() -> Any:
    spec = importlib.util.spec_from_file_location("quiver_vectors_regenerate", HERE / "regenerate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()
FILES: dict[str, bytes] = GENERATOR.build_files()


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_committed_vectors_are_computed_again(name: str) -> None:
    assert (HERE / name).read_bytes() == FILES[name], "a vector changed: is the protocol meant to change? make vectors"


def test_no_vector_file_is_left_over() -> None:
    assert {path.name for path in HERE.glob("*.json")} == set(FILES)


def test_the_committed_feed_proof_is_good_under_the_committed_validator_set() -> None:
    trusted = parse_validator_set_file((HERE / "validator_set.json").read_bytes())
    proof = parse_feed_proof((HERE / "feed_proof.json").read_bytes())
    item = verify_feed_proof(proof, trusted, max_age_s=0, now_s=GENERATOR.TIME_S)
    assert item == proof.item


def test_eth_account_computes_the_committed_signing_roots() -> None:
    table = json.loads((HERE / "records.json").read_bytes())["records"]
    for name, row in table.items():
        if not hasattr(records, name):
            continue
        record = getattr(records, name).from_json(row["example"])
        document = compute_typed_data(record, GENERATOR.DOMAIN)
        digest = _hash_eip191_message(encode_typed_data(full_message=document))
        assert "0x" + digest.hex() == row["signing_root"], name
