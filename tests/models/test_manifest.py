"""Manifests: one digest for one model, and nothing else accepted."""

import hashlib

import pytest

from models.manifest import ModelManifest, compute_file_digest, compute_files_digest
from scoring.errors import InvalidInput

MANIFEST = ModelManifest(
    name="tiny",
    weights_digest=b"\x01" * 32,
    tokenizer_digest=b"\x02" * 32,
    chat_template_digest=b"\x03" * 32,
    dtypes=("bf16", "fp32"),
    context_length=256,
    vocabulary_size=300,
    parameter_count=1000,
)

REFUSED = [
    ("empty name", {"name": ""}, "name"),
    ("short digest", {"weights_digest": "0x01"}, "weights_digest"),
    ("digest in capitals", {"tokenizer_digest": "0x" + "AB" * 32}, "tokenizer_digest"),
    ("digest that is not hex", {"chat_template_digest": "0x" + "zz" * 32}, "chat_template_digest"),
    ("unknown dtype", {"dtypes": ["int4"]}, "dtypes"),
    ("no dtype", {"dtypes": []}, "dtypes"),
    ("dtypes out of order", {"dtypes": ["fp32", "bf16"]}, "dtypes"),
    ("dtype that is a number", {"dtypes": [4]}, "dtypes"),
    ("no context", {"context_length": 0}, "context_length"),
    ("vocabulary as a float", {"vocabulary_size": 300.0}, "vocabulary_size"),
    ("parameters as a boolean", {"parameter_count": True}, "parameter_count"),
    ("unknown key", {"license": "MIT"}, "manifest"),
]


def test_a_manifest_survives_json():
    assert ModelManifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_the_digest_is_32_bytes_and_depends_on_every_field():
    digests = {MANIFEST.compute_digest()}
    for change in ({"name": "x"}, {"dtypes": ["bf16"]}, {"context_length": 255}, {"weights_digest": "0x" + "09" * 32}):
        digests.add(ModelManifest.from_json({**MANIFEST.to_json(), **change}).compute_digest())
    assert len(digests) == 5
    assert all(len(digest) == 32 for digest in digests)


@pytest.mark.parametrize(("name", "change", "field"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_manifest_refuses(name, change, field):
    with pytest.raises(InvalidInput) as refusal:
        ModelManifest.from_json({**MANIFEST.to_json(), **change})
    assert refusal.value.field == field


def test_a_manifest_refuses_a_missing_key():
    value = MANIFEST.to_json()
    del value["dtypes"]
    with pytest.raises(InvalidInput):
        ModelManifest.from_json(value)


def test_the_digest_of_files_depends_on_names_and_contents_but_not_on_order(tmp_path):
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    first = compute_files_digest([one, two])
    assert compute_file_digest(one) == hashlib.sha256(b"1").digest()
    assert compute_files_digest([two, one]) == first
    two.write_bytes(b"3")
    assert compute_files_digest([one, two]) != first
