"""An honest classifier of short texts, cross-validated: which of two sets does a text come from?

Features: TF-IDF of words and of characters, the bundled sentence embedding, the text's shape, and what else the caller
has. Logistic regression; near-duplicates never lie on both sides of a split. The area under the ROC curve (AUC) is that
of the left-out texts, its interval a bootstrap over groups of near-duplicates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from scoring.errors import InvalidInput

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

WORDS, CHARACTERS, EMBEDDING, SHAPE, EXTRA = "words", "characters", "embedding", "shape", "extra"
FOLDS = 5
BOOTSTRAPS = 400
NEAR_DUPLICATE_COSINE = 0.9
PENALTY_C = 4.0
EMBEDDING_SCALE = 2.0
SHAPE_SCALE = 0.25
"""Block scales: TF-IDF rows have length 1, so a block's length says how much the penalty lets it speak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSet:
    """Texts with their unit embeddings [texts, dimensions] and, perhaps, further features [texts, features]."""

    texts: tuple[str, ...]
    embeddings: Floats
    extra: Floats | None = None

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.embeddings) or (self.extra is not None and len(self.extra) != len(self.texts)):
            raise InvalidInput("one row of features for each text", "embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """How well two sets are told apart: AUC of left-out texts, its 95 % interval, how many texts each.

    `caught` is the share of the first set that scores above nine tenths of the second: the probes that a provider
    catches when it treats one customer in ten with care.
    """

    auc: float
    low: float
    high: float
    caught: float
    first_count: int
    second_count: int


def measure_separation(first: TextSet, second: TextSet, blocks: Sequence[str]) -> Separation:
    """Return how well a classifier with some blocks of features tells the sets apart."""
    texts = first.texts + second.texts
    embeddings = np.vstack([first.embeddings, second.embeddings])
    extra = None
    if EXTRA in blocks:
        if first.extra is None or second.extra is None:
            raise InvalidInput("these sets have no further features", "blocks")
        extra = np.vstack([first.extra, second.extra])
    labels = np.repeat([1, 0], [len(first.texts), len(second.texts)])
    groups = group_near_duplicates(texts, embeddings)
    scores = np.zeros(len(texts))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(texts, labels, groups):
        features = _build_features(texts, embeddings, extra, train, blocks)
        model = LogisticRegression(C=PENALTY_C, class_weight="balanced", max_iter=1000)
        model.fit(features[train], labels[train])
        scores[test] = model.decision_function(features[test])
    low, high = _bootstrap(scores, labels, groups)
    return Separation(
        auc=float(roc_auc_score(labels, scores)),
        low=low,
        high=high,
        caught=float((scores[labels == 1] > np.quantile(scores[labels == 0], 0.9)).mean()),
        first_count=len(first.texts),
        second_count=len(second.texts),
    )


def find_telling_words(first: TextSet, second: TextSet, count: int) -> tuple[list[str], list[str]]:
    """Return the words and word pairs that speak most for the first and for the second set."""
    texts = first.texts + second.texts
    vectorizer = _build_word_vectorizer()
    model = LogisticRegression(C=PENALTY_C, class_weight="balanced", max_iter=1000)
    model.fit(vectorizer.fit_transform(texts), np.repeat([1, 0], [len(first.texts), len(second.texts)]))
    names, order = vectorizer.get_feature_names_out(), np.argsort(model.coef_[0])
    return [str(names[place]) for place in order[::-1][:count]], [str(names[place]) for place in order[:count]]


def group_near_duplicates(texts: Sequence[str], embeddings: Floats) -> Integers:
    """Return a group number for each text: linked texts have nearly the same embedding or the same letters."""
    same: dict[str, int] = {}
    keys = ["".join(letter for letter in text.lower() if letter.isalnum()) for text in texts]
    identity = np.array([same.setdefault(key, len(same)) for key in keys])
    linked = (embeddings @ embeddings.T >= NEAR_DUPLICATE_COSINE) | (identity[:, None] == identity[None, :])
    _, groups = connected_components(csr_matrix(linked), directed=False)
    result: Integers = groups.astype(np.int64)
    return result


def compute_shape(text: str) -> list[float]:
    """Return lengths, marks and case of a text: what it looks like, not what it says."""
    words = text.split()
    size = max(len(text), 1)
    return [
        float(np.log(size)),
        float(np.log(max(len(words), 1))),
        sum(map(len, words)) / max(len(words), 1),
        float(text[:1].islower()),
        float(text[-1:] == "."),
        float(text[-1:] == "?"),
        float(text[-1:].isalnum()),
        float("\n" in text),
        sum(letter.isupper() for letter in text) / size,
        sum(letter.isdigit() for letter in text) / size,
        sum(not letter.isalnum() and not letter.isspace() for letter in text) / size,
        sum(not letter.isascii() for letter in text) / size,
    ]


def _build_features(
    texts: Sequence[str], embeddings: Floats, extra: Floats | None, train: Integers, blocks: Sequence[str]
) -> Any:
    """Return the features of all texts; vocabularies, weights and scales are those of the training texts."""
    parts: list[Any] = []
    for block, vectorizer in ((WORDS, _build_word_vectorizer()), (CHARACTERS, _build_character_vectorizer())):
        if block in blocks:
            parts.append(vectorizer.fit([texts[place] for place in train]).transform(texts))
    if EMBEDDING in blocks:
        parts.append(csr_matrix(EMBEDDING_SCALE * embeddings))
    if SHAPE in blocks:
        parts.append(_scale(np.array([compute_shape(text) for text in texts]), train))
    if extra is not None:
        parts.append(_scale(extra, train))
    return hstack(parts).tocsr()


def _scale(values: Floats, train: Integers) -> Any:
    return csr_matrix(SHAPE_SCALE * np.clip(StandardScaler().fit(values[train]).transform(values), -4.0, 4.0))


def _build_word_vectorizer() -> TfidfVectorizer:
    return TfidfVectorizer(
        lowercase=False, token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), min_df=2, sublinear_tf=True
    )


def _build_character_vectorizer() -> TfidfVectorizer:
    return TfidfVectorizer(lowercase=False, analyzer="char_wb", ngram_range=(2, 4), min_df=3, sublinear_tf=True)


def _bootstrap(scores: Floats, labels: Integers, groups: Integers) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % points of the AUC over resampled groups."""
    generator = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values: list[float] = []
    while len(values) < BOOTSTRAPS:
        drawn = np.concatenate([members[place] for place in generator.integers(0, len(members), len(members))])
        if 0 < labels[drawn].sum() < len(drawn):
            values.append(float(roc_auc_score(labels[drawn], scores[drawn])))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
