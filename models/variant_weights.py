"""Weights of a variant, made once from the claimed weights and kept on disk beside the converted models.

Only the weights that a variant changes are stored; embeddings and norms are those of the claimed model, in memory too.
The cache is not trusted to be whole: see `models.convert`, whose rules hold here (one atomic rename, one lock, digests
checked when a process first uses a file, what a kill leaves half is removed by the next one).
"""

import copy
import dataclasses
import hashlib
import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from models.convert import RECORD_NAME, get_cache_dir, hold_lock
from models.load import LoadedModel, is_outline, load_model
from models.manifest import compute_file_digest
from models.packing import pack_linears
from models.variants import WEIGHT_VARIANTS, build_rounding, drop_layer, list_linear_layers
from scoring import canonical
from scoring.canonical import Json
from scoring.errors import InvalidInput, Unavailable, VerificationFailed

LAYOUT = 1
FILE_NAME = "model.safetensors"
_TEXTS = ("The quick brown fox, 1234 + 5678 = 6912.\n", "def f(x):\n    return x**2\n", "Größe, 東京, naïve 🙂")


class WeightsShelf:
    """Holds the weights of one alternative at a time, ready to run. Not safe for several threads."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._claimed = loaded
        self._name = ""
        self._held: LoadedModel | None = None
        self._verified: set[Path] = set()

    def open_variant(self, name: str) -> LoadedModel:
        """Return the claimed model with the weights of one of WEIGHT_VARIANTS, letting go of what was held before.

        Raises InvalidInput for an unknown name, Unavailable when the cache cannot be written and VerificationFailed
        when a cached file is damaged.
        """
        if name not in WEIGHT_VARIANTS:
            raise InvalidInput(f"must be one of {', '.join(WEIGHT_VARIANTS)}", "variant")
        if self._name != name or self._held is None:
            self._drop()
            folder = prepare_variant(self._claimed, name)
            if folder not in self._verified:
                _verify_folder(folder)
                self._verified.add(folder)
            self._hold(name, _build_variant(self._claimed, load_file(folder / FILE_NAME)))
        assert self._held is not None
        return self._held

    def open_without_layer(self, layer: int) -> LoadedModel:
        """Return the claimed model without one decoder layer; every weight is shared with it."""
        if self._name != f"without-layer:{layer}" or self._held is None:
            self._drop()
            model = _copy_tree(self._claimed)
            drop_layer(model, layer)
            self._name, self._held = f"without-layer:{layer}", dataclasses.replace(self._claimed, model=model)
        assert self._held is not None
        return self._held

    def open_sibling(self, name_or_path: str) -> LoadedModel:
        """Return another model, on the device of the claimed one (where only its outline is here: on any)."""
        if self._name != f"sibling:{name_or_path}" or self._held is None:
            self._drop()
            claimed = self._claimed
            if is_outline(claimed):
                other = load_model(name_or_path)
            else:
                other = load_model(name_or_path, dtype=claimed.dtype, device=claimed.device, attn=claimed.attention)
            self._hold(f"sibling:{name_or_path}", other)
        assert self._held is not None
        return self._held

    def open_numerics(self, dtype: str) -> LoadedModel:
        """Return the claimed model in another dtype, its weights rounded from their source anew."""
        if self._name != f"dtype:{dtype}" or self._held is None:
            self._drop()
            claimed = self._claimed
            other = load_model(claimed.source, dtype=dtype, device=claimed.device, attn=claimed.attention)
            self._hold(f"dtype:{dtype}", other)
        assert self._held is not None
        return self._held

    def _drop(self) -> None:
        self._name, self._held = "", None

    def _hold(self, name: str, ready: LoadedModel) -> None:
        pack_linears(ready)
        self._name, self._held = name, ready


def prepare_variant(loaded: LoadedModel, name: str) -> Path:
    """Return the folder with the weights of a variant, computing and writing them when there are none.

    The folder is named after the claimed model and a fingerprint of the weights at hand, so that weights that are
    not the claimed ones cannot take their place. Raises Unavailable when the cache cannot be written.
    """
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", loaded.manifest.name)
    key = f"{label}-{_compute_fingerprint(loaded)[:16]}-{loaded.dtype}-{name}-v{LAYOUT}"
    folder = get_cache_dir() / "models" / key
    if (folder / RECORD_NAME).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(folder.with_name(key + ".lock")):
            if not (folder / RECORD_NAME).is_file():
                _write_variant(loaded, name, folder)
    except OSError as error:
        raise Unavailable(
            f"cannot write the model cache {get_cache_dir()} (QUIVER_CACHE_DIR moves it): {error}"
        ) from None
    return folder


def has_same_tokens(first: LoadedModel, second: LoadedModel) -> bool:
    """Return whether two models give every token id the same meaning and split texts alike."""
    if first.manifest.tokenizer_digest == second.manifest.tokenizer_digest:
        return True
    own, other = first.tokenizer, second.tokenizer
    return own.get_vocab() == other.get_vocab() and all(
        own.encode(text, add_special_tokens=False) == other.encode(text, add_special_tokens=False) for text in _TEXTS
    )


def _compute_fingerprint(loaded: LoadedModel) -> str:
    digest = hashlib.sha256(loaded.manifest.weights_digest)
    for name, module in list_linear_layers(loaded.model):
        # One row of each weight: a few milliseconds, and any other rounding of the weights shows.
        row = module.weight[0].detach().contiguous().view(torch.uint8).cpu().numpy().tobytes()
        digest.update(f"{name} {list(module.weight.shape)} {module.weight.dtype}".encode() + row)
    return digest.hexdigest()


def _write_variant(loaded: LoadedModel, name: str, folder: Path) -> None:
    part = folder.with_name(folder.name + ".part")
    for leftover in (part, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir()
    rounding = build_rounding(name)
    with torch.inference_mode():
        tensors = {
            f"{place}.weight": rounding(module.weight).contiguous().cpu()
            for place, module in list_linear_layers(loaded.model)
        }
    save_file(tensors, part / FILE_NAME, metadata={"format": "pt"})
    record: Json = {"files": {FILE_NAME: compute_file_digest(part / FILE_NAME).hex()}}
    (part / RECORD_NAME).write_bytes(canonical.encode(record))
    part.rename(folder)


def _verify_folder(folder: Path) -> None:
    try:
        record: Any = canonical.decode((folder / RECORD_NAME).read_bytes())
        is_whole = compute_file_digest(folder / FILE_NAME).hex() == record["files"][FILE_NAME]
    except (OSError, KeyError, TypeError, InvalidInput) as error:
        raise VerificationFailed(f"the stored variant is damaged ({error}); delete {folder}") from None
    if not is_whole:
        raise VerificationFailed(f"{FILE_NAME} differs from what was written; delete {folder}")


def _build_variant(loaded: LoadedModel, tensors: dict[str, Any]) -> LoadedModel:
    """Return a model of its own module tree that shares every tensor with the claimed one but those given."""
    model = _copy_tree(loaded)
    for place, module in list_linear_layers(model):
        # A packed layer computes with a private copy of the claimed weight; the class's own method does not.
        module.__dict__.pop("forward", None)
        weight = tensors[f"{place}.weight"].to(loaded.device)
        module.weight = torch.nn.Parameter(weight, requires_grad=False)
    return dataclasses.replace(loaded, model=model)


def _copy_tree(loaded: LoadedModel) -> Any:
    """Return a module tree of its own that shares every tensor with the claimed model, packed ones too."""
    widened = (module.weight_fp32 for module in loaded.model.modules() if hasattr(module, "weight_fp32"))
    shared = itertools.chain(loaded.model.parameters(), loaded.model.buffers(), widened)
    return copy.deepcopy(loaded.model, {id(tensor): tensor for tensor in shared})
