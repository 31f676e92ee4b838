"""The models that two rows of the detection benchmark serve, named as an auditor who suspects them would name them.

    python -m benchmarks.named_models        makes them and prints the options that name them

`quiver audit --sibling MODEL` and `quiver model calibrate --sibling MODEL` take the same paths.
"""

import shutil
from pathlib import Path

from benchmarks.other_model import prepare_other_model
from models.convert import get_cache_dir
from models.load import load_model, load_outline
from models.siblings import find_siblings
from models.variants import apply_variant

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


if __name__ == "__main__":
    print(" ".join(f"--sibling {path}" for path in list_named_models().values()))
