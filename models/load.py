"""Load a causal language model: `bundled`, a folder, a GGUF file or a Hugging Face id. No code of theirs runs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.bundled import BUNDLED_NAME, prepare_bundled
from models.convert import STORED_DTYPES, convert_gguf, verify_converted
from models.manifest import DTYPES, ModelManifest, compute_file_digest, compute_files_digest
from models.requests import ChatMessage
from scoring.errors import InvalidInput, MissingExtra, Unavailable

BUNDLED = "bundled"
OUTLINE_DEVICE = "meta"
ATTENTIONS = ("sdpa", "eager")
DEVICES = ("auto", "cpu", "cuda")
_WANTED_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedModel:
    """A model ready to run: the torch module in evaluation mode, its tokenizer and what they are.

    `end_ids` are the tokens that end an answer, `source` is the name that it was loaded by.
    """

    model: Any
    tokenizer: Any
    manifest: ModelManifest
    dtype: str
    device: str
    attention: str
    end_ids: frozenset[int]
    source: str


def load_model(name_or_path: str, *, dtype: str = "bf16", device: str = "auto", attn: str = "sdpa") -> LoadedModel:
    """Return a model by name: `bundled`, a folder with safetensors, a .gguf file, or a Hugging Face id.

    Ids are fetched through huggingface_hub (HF_HUB_OFFLINE is respected), safetensors only. Raises InvalidInput for
    a wrong argument, path or format, or a family that we cannot run faithfully; VerificationFailed for damaged files;
    Unavailable when the hub does not answer; MissingExtra when torch or transformers is not installed.
    """
    _check_choice(dtype, DTYPES, "dtype")
    _check_choice(device, DEVICES, "device")
    _check_choice(attn, ATTENTIONS, "attn")
    folder, manifest = _find_weights(name_or_path, dtype)
    place = choose_device(device)
    model, tokenizer = _load_folder(folder, dtype, place, attn)
    loaded = LoadedModel(
        model=model,
        tokenizer=tokenizer,
        manifest=manifest or _describe(name_or_path, folder, model, tokenizer),
        dtype=dtype,
        device=place,
        attention=attn,
        end_ids=_collect_end_ids(model, tokenizer),
        source=name_or_path,
    )
    if name_or_path != BUNDLED:
        from models.self_check import verify_supported

        verify_supported(loaded)
    return loaded


def load_outline(name_or_path: str, *, needs_weights: bool = False) -> LoadedModel:
    """Return a model without its weights: tokenizer, template, end tokens and manifest, for one that runs elsewhere.

    Its manifest is that of `load_model` where the weights lie here; a folder with `config.json` and the tokenizer alone
    has another digest. Weights of a hub id are not fetched, nor missed in a folder, unless `needs_weights` says so.
    Raises what `load_model` raises.
    """
    folder, manifest = _find_weights(name_or_path, "bf16", needs_weights)
    model, tokenizer = _load_outline(folder)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        manifest=manifest or _describe(name_or_path, folder, model, tokenizer),
        dtype="none",
        device=OUTLINE_DEVICE,
        attention="none",
        end_ids=_collect_end_ids(model, tokenizer),
        source=name_or_path,
    )


def is_outline(loaded: LoadedModel) -> bool:
    """Return whether a model is here without its weights."""
    return loaded.device == OUTLINE_DEVICE


def render_prompt(loaded: LoadedModel, messages: Sequence[ChatMessage]) -> list[int]:
    """Return the token ids of a conversation in the model's chat template, ready for the assistant's answer.

    Raises InvalidInput when the model has no chat template or the template refuses the messages.
    """
    if not loaded.tokenizer.chat_template:
        raise InvalidInput(f"{loaded.manifest.name} has no chat template: it cannot answer conversations", "messages")
    if not messages:
        raise InvalidInput("a conversation needs at least one message", "messages")
    from jinja2 import TemplateError

    rows = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = loaded.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
    except (TemplateError, TypeError, ValueError) as error:
        raise InvalidInput(f"the chat template refuses these messages: {error}", "messages") from None
    return encode_text(loaded, text)


def encode_text(loaded: LoadedModel, text: str) -> list[int]:
    """Return the token ids of a text, without adding special tokens."""
    ids: list[int] = loaded.tokenizer.encode(text, add_special_tokens=False)
    return ids


def decode_tokens(loaded: LoadedModel, token_ids: Sequence[int]) -> str:
    """Return the text of some tokens, special tokens left out; raises InvalidInput for ids out of the vocabulary."""
    check_vocabulary(loaded, token_ids, "token_ids")
    text: str = loaded.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def check_vocabulary(loaded: LoadedModel, token_ids: Sequence[int], field: str) -> None:
    """Raise InvalidInput when a token id is not one of the model's."""
    size = loaded.manifest.vocabulary_size
    if token_ids and not 0 <= min(token_ids) <= max(token_ids) < size:
        raise InvalidInput(f"token ids of this model are 0 to {size - 1}", field)


def _check_choice(value: str, choices: tuple[str, ...], field: str) -> None:
    if value not in choices:
        raise InvalidInput(f"must be one of {', '.join(choices)}", field)


def _find_weights(name: str, dtype: str, needs_weights: bool = True) -> tuple[Path, ModelManifest | None]:
    """Return the folder to load from and, for converted files, the manifest that was checked with it."""
    if name == BUNDLED:
        return _open_converted(prepare_bundled(), dtype)
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InvalidInput(f"there is no file {path}", "model")
        return _open_converted(convert_gguf(path, path.stem, compute_file_digest(path)), dtype)
    if not path.is_dir():
        if path.exists() or name.startswith((".", "/", "~")):
            raise InvalidInput(f"{name} is not a model folder, a .gguf file, a Hugging Face id or {BUNDLED!r}", "model")
        path = _download(name, _WANTED_FILES if needs_weights else _WANTED_FILES[1:])
    _check_folder(path, needs_weights)
    return path, None


def _open_converted(folder: Path, dtype: str) -> tuple[Path, ModelManifest]:
    stored = dtype if dtype in STORED_DTYPES else "fp32"
    return folder / stored, verify_converted(folder, stored)


def _download(name: str, patterns: list[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise _missing(error) from None
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except HFValidationError as error:
        raise InvalidInput(f"{name} is neither a path nor a Hugging Face id: {error}", "model") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise Unavailable(f"there is no folder {name}, and it cannot be fetched from the hub: {error}") from None


def _check_folder(folder: Path, needs_weights: bool) -> None:
    if not (folder / "config.json").is_file():
        raise InvalidInput(f"{folder} has no config.json", "model")
    if not needs_weights or any(folder.glob("*.safetensors")):
        return
    if any(path for pattern in _PICKLES for path in folder.glob(pattern)):
        raise InvalidInput(f"{folder} has pickled weights only: they can run code; convert to safetensors", "model")
    raise InvalidInput(f"{folder} has no .safetensors files", "model")


def choose_device(device: str) -> str:
    """Return `cpu` or `cuda` for one of DEVICES; raises InvalidInput where there is no such device."""
    try:
        import torch
    except ImportError as error:
        raise _missing(error) from None
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("this machine has no CUDA device that torch can use", "device")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _load_folder(folder: Path, dtype: str, device: str, attention: str) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise _missing(error) from None
    logging.disable_progress_bar()
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=kind, attn_implementation=attention, use_safetensors=True, **options
        )
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise InvalidInput(f"transformers cannot load {folder}: {error}", "model") from None
    return model.eval().requires_grad_(False).to(device), tokenizer


def _load_outline(folder: Path) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    except ImportError as error:
        raise _missing(error) from None
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        config = AutoConfig.from_pretrained(folder, **options)
        # Shapes without memory: the vocabulary and the number of parameters are read off the model itself.
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise InvalidInput(f"transformers cannot read {folder}: {error}", "model") from None
    return model, tokenizer


def _describe(name: str, folder: Path, model: Any, tokenizer: Any) -> ModelManifest:
    tokenizer_files = [folder / part for part in _TOKENIZER_FILES if (folder / part).is_file()]
    return ModelManifest(
        name=Path(name).name if Path(name).is_dir() else name,
        weights_digest=compute_files_digest([*folder.glob("*.safetensors"), folder / "config.json"]),
        tokenizer_digest=compute_files_digest(tokenizer_files),
        chat_template_digest=hashlib.sha256((tokenizer.chat_template or "").encode()).digest(),
        dtypes=DTYPES,
        context_length=getattr(model.config, "max_position_embeddings", 0) or 2048,
        vocabulary_size=model.get_input_embeddings().num_embeddings,
        parameter_count=model.num_parameters(),
    )


def _collect_end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    found = model.generation_config.eos_token_id
    ids = found if isinstance(found, list) else [found]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)


def _missing(error: ImportError) -> MissingExtra:
    return MissingExtra(f"{error.name} is not installed: pip install 'quiver-oracle[validator]'")


__all__ = ["BUNDLED", "BUNDLED_NAME", "LoadedModel", "decode_tokens", "encode_text", "load_model", "render_prompt"]
