"""The models that two rows of the detection benchmark serve, named as an auditor who suspects them would name them.

    python -m benchmarks.named_models        makes them and prints the options that name them

`quiver audit --sibling MODEL` and `quiver model calibrate --sibling MODEL` take the same paths.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.cheat_rows import find_row
from benchmarks.detection_data import ROW_REQUESTS, get_group, open_verifier
from benchmarks.detection_pools import read_honest_answers, read_row_answers
from benchmarks.honest_rows import MAIN_GROUPS
from benchmarks.other_model import prepare_other_model
from models.collection import Answered, Collection, Progress
from models.convert import get_cache_dir
from models.gather import gather_alternative
from models.load import load_model, load_outline
from models.siblings import find_siblings
from models.variants import apply_variant
from scoring.evidence.channel_ids import is_sibling, list_text_ids
from scoring.evidence.profile import ToleranceProfile

NAMED_ROWS = {"drop-layer-named": "drop-layer", "other-model-named": "other-model"}
"""Rows whose answers are those of another row, whose model the auditor names."""


def prepare_pruned_model() -> Path:
    """Return a folder with the bundled model without its middle layer, as a model of its own; 270 MB, made once."""
    target = get_cache_dir() / "third-party" / "bundled-drop-layer"
    if not target.exists():
        pruned = apply_variant(load_model("bundled", dtype="bf16", device="cpu"), "drop-layer")
        pruned.model.config.num_hidden_layers = len(pruned.model.model.layers)
        part = target.with_name(f".{target.name}")
        shutil.rmtree(part, ignore_errors=True)
        pruned.model.save_pretrained(part)
        pruned.tokenizer.save_pretrained(part)
        part.rename(target)
    return target


def list_named_models() -> dict[str, str]:
    """Return the path of each row's model, by the row whose answers it gives; makes those that are missing."""
    return {"drop-layer": str(prepare_pruned_model()), "other-model": str(prepare_other_model())}


def find_named_ids() -> dict[str, str]:
    """Return the id of each row's model as an alternative (`models.siblings`), by the row whose answers it gives."""
    models = list_named_models()
    siblings = find_siblings(load_outline("bundled"), list(models.values()))
    return {row: sibling.id for row, sibling in zip(models, siblings, strict=True)}


def find_named(profile: ToleranceProfile, rows: Sequence[str]) -> dict[str, str]:
    """Return the ids of the models that rows serve and a profile has bounds for, by row; makes those models."""
    bet = profile.compute_mu_ppm().keys()
    if not any(map(is_sibling, bet)) or not {*NAMED_ROWS.values()}.intersection(rows):
        return {}
    return {row: name for row, name in find_named_ids().items() if row in rows and {*list_text_ids((name,))} <= bet}


def gather_named_rows(collection: Collection, named: Mapping[str, str], count: int, progress: Progress) -> None:
    """Run each named model over the answers that it gave itself, and over honest ones (ROW_REQUESTS of a cell)."""
    models = list_named_models() if named else {}
    for row in named:
        groups = {group: read_honest_answers(collection, group)[:ROW_REQUESTS] for group in MAIN_GROUPS}
        groups[get_group(find_row(row))] = read_row_answers(collection, find_row(row), count)
        _gather_named(collection, groups, models[row], progress)


def _gather_named(collection: Collection, groups: dict[str, list[Answered]], model: str, progress: Progress) -> None:
    """Run a model that the auditor names over groups of answers whose reference pass is there."""
    from models.variant_weights import WeightsShelf

    verifier = open_verifier()
    (sibling,) = find_siblings(verifier, [model])
    weights = WeightsShelf(verifier)
    for group, answers in groups.items():
        gather_alternative(collection, group, answers, verifier, sibling, weights, progress)


if __name__ == "__main__":
    print(" ".join(f"--sibling {path}" for path in list_named_models().values()))
