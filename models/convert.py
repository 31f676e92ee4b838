"""GGUF files, converted once into safetensors in a user cache: bf16 and fp32, so that processes share mapped pages.

The cache is not trusted to be whole: every file's SHA-256 is checked on each load, a copy appears by one atomic
rename, and a lock lets one process convert while the others wait. A process killed half-way leaves only a folder with
the suffix `.part`, which the next one removes.
"""

import contextlib
import fcntl
import functools
import hashlib
import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from models.manifest import ModelManifest, compute_file_digest
from scoring import canonical
from scoring.canonical import Json
from scoring.errors import InvalidInput, MissingExtra, Unavailable, VerificationFailed

LAYOUT = 1
RECORD_NAME = "quiver-files.json"
STORED_DTYPES = ("bf16", "fp32")

_parsing = threading.Lock()

Progress = Callable[[int, str], None]
"""Called with per cent done and what is being done."""


def get_cache_dir() -> Path:
    """Return the folder for converted models: `QUIVER_CACHE_DIR`, or quiver-oracle in the platform's user cache."""
    chosen = os.environ.get("QUIVER_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "quiver-oracle"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quiver-oracle"


def print_progress(per_cent: int, action: str) -> None:
    """Write a progress bar to standard error: redrawn in place on a terminal, one line per step otherwise."""
    bar = ("#" * (per_cent // 5)).ljust(20, ".")
    line = f"preparing model [{bar}] {per_cent:3d} %  {action}"
    if sys.stderr.isatty():
        sys.stderr.write("\r" + line.ljust(100) + ("\n" if per_cent >= 100 else ""))
    else:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def convert_gguf(source: Path, name: str, source_digest: bytes, progress: Progress = print_progress) -> Path:
    """Return the folder with the converted copy of a GGUF file, converting it first when there is none.

    The folder has one subfolder for each of STORED_DTYPES and the record RECORD_NAME.
    Raises InvalidInput when the file is not a model with a tokenizer, MissingExtra without the `gguf` package, and
    Unavailable when the cache cannot be written.
    """
    folder = get_cache_dir() / "models" / f"{name}-{source_digest.hex()[:16]}-v{LAYOUT}"
    if (folder / RECORD_NAME).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(folder.with_name(folder.name + ".lock")):
            if not (folder / RECORD_NAME).is_file():
                _convert(source, name, source_digest, folder, progress)
    except OSError as error:
        raise Unavailable(
            f"cannot write the model cache {get_cache_dir()} (QUIVER_CACHE_DIR moves it): {error}"
        ) from None
    return folder


def verify_converted(folder: Path, dtype: str) -> ModelManifest:
    """Check every file of one dtype against the record and return the manifest.

    Raises VerificationFailed when a file is missing or differs; the message says which folder to delete.
    """
    try:
        record: Any = canonical.decode((folder / RECORD_NAME).read_bytes())
        files = record["files"][dtype]
        for file_name, digest in files.items():
            if compute_file_digest(folder / dtype / file_name).hex() != digest:
                raise VerificationFailed(f"{dtype}/{file_name} differs from what was converted; delete {folder}")
        return ModelManifest.from_json(record["manifest"])
    except (OSError, KeyError, TypeError, InvalidInput) as error:
        raise VerificationFailed(f"the converted model is damaged ({error}); delete {folder}") from None


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, made when missing, among all processes of this machine."""
    # The lock file stays: removing it would let a third process lock a new file while the second holds the old one.
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(source: Path, name: str, source_digest: bytes, folder: Path, progress: Progress) -> None:
    part = folder.with_name(folder.name + ".part")
    for leftover in (part, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    progress(0, f"reading {source.name} (once, some 15 seconds)")
    with _parse_once():
        model, tokenizer = _read_gguf(source)
        tokenizer_digest = compute_gguf_tokenizer_digest(source)
    template = tokenizer.chat_template or ""
    progress(60, "writing bf16 and fp32 weights")
    files: dict[str, Json] = {}
    for done, dtype in enumerate(STORED_DTYPES):
        _write_model(model, tokenizer, dtype, part / dtype)
        progress(80 + 9 * done, "computing digests")
        files[dtype] = {path.name: compute_file_digest(path).hex() for path in sorted((part / dtype).iterdir())}
    manifest = ModelManifest(
        name=name,
        weights_digest=source_digest,
        tokenizer_digest=tokenizer_digest,
        chat_template_digest=hashlib.sha256(template.encode()).digest(),
        dtypes=("bf16", "fp16", "fp32"),
        context_length=model.config.max_position_embeddings,
        vocabulary_size=model.config.vocab_size,
        parameter_count=model.num_parameters(),
    )
    (part / RECORD_NAME).write_bytes(canonical.encode({"files": files, "manifest": manifest.to_json()}))
    part.rename(folder)
    progress(100, "done")


@contextlib.contextmanager
def _parse_once() -> Iterator[None]:
    """Keep what is parsed of GGUF files until the end: transformers opens a file anew for each thing that it reads.

    That is a pass over all tokens and merges each time, and a table of tensor names for every module of the model.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra(f"{error.name} is not installed: pip install 'quiver-oracle[validator]'") from None
    with _parsing:
        reader, names = gguf.GGUFReader, gguf.get_tensor_name_map
        open_once = functools.cache(reader)
        gguf.GGUFReader = lambda path: open_once(str(path))
        gguf.get_tensor_name_map = functools.cache(names)
        try:
            yield
        finally:
            gguf.GGUFReader, gguf.get_tensor_name_map = reader, names


def _read_gguf(source: Path) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra(f"{error.name} is not installed: pip install 'quiver-oracle[validator]'") from None
    logging.disable_progress_bar()
    try:
        # The GGUF reader draws a bar of its own that ignores the switch above.
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
            model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    except ImportError as error:
        raise MissingExtra(f"{error}: pip install 'quiver-oracle[validator]'") from None
    except (ValueError, KeyError, OSError, TypeError, IndexError) as error:
        raise InvalidInput(f"{source.name} is not a GGUF model that transformers can read: {error}", "model") from None
    return model, tokenizer


def _write_model(model: Any, tokenizer: Any, dtype: str, folder: Path) -> None:
    """Write weights, configuration and tokenizer as any safetensors model folder has them."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    kind = {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    tensors = {key: value.to(kind).contiguous() for key, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    config.update(dtype={"bf16": "bfloat16", "fp32": "float32"}[dtype], architectures=[type(model).__name__])
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def compute_gguf_tokenizer_digest(source: Path) -> bytes:
    """Return the SHA-256 over the `tokenizer.*` metadata of a GGUF file, the chat template left out.

    Hashed as (key, element) sequences of the file's own bytes, so that it does not depend on library versions.
    """
    from gguf import GGUFReader

    digest = hashlib.sha256()
    reader = GGUFReader(source)
    for key in sorted(name for name in reader.fields if name.startswith("tokenizer.")):
        if key == "tokenizer.chat_template":
            continue
        field = reader.fields[key]
        digest.update(len(key).to_bytes(8, "big") + key.encode() + len(field.data).to_bytes(8, "big"))
        for index in field.data:
            data = field.parts[index].tobytes()
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()
