"""The models of a benchmark run, opened by name: the claimed one always, one other at a time."""

import gc

from benchmarks.cheat_rows import CLAIMED, OTHER
from benchmarks.other_model import load_other_model
from models.load import LoadedModel, load_model
from models.packing import pack_linears
from models.variants import apply_variant


class ModelShelf:
    """Holds the claimed model and what was opened last beside it, ready to generate. Call `open` to get one."""

    def __init__(self, model: str = "bundled", *, dtype: str = "bf16", device: str = "auto") -> None:
        self._model, self._dtype, self._device = model, dtype, device
        self._claimed: LoadedModel | None = None
        self._name = ""
        self._held: LoadedModel | None = None

    def open(self, name: str) -> LoadedModel:
        """Return a model by name: CLAIMED, OTHER or a variant; raises what loading raises."""
        if name == CLAIMED:
            if self._claimed is None:
                self._claimed = self._load()
                pack_linears(self._claimed)
            return self._claimed
        if self._held is None or self._name != name:
            self._held = None
            gc.collect()
            self._held, self._name = self._load_other(name), name
        return self._held

    def _load_other(self, name: str) -> LoadedModel:
        if name == OTHER:
            loaded = load_other_model(dtype=self._dtype, device=self._device)
        else:
            loaded = apply_variant(self._load(), name)
        pack_linears(loaded)
        return loaded

    def _load(self) -> LoadedModel:
        return load_model(self._model, dtype=self._dtype, device=self._device)
