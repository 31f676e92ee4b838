"""The bundled model as an F16 GGUF file, for engines that read nothing else.

Every tensor is the value that our own conversion holds (the package's Q4_1 and Q8_0 blocks decoded), rounded to 11
bits where llama.cpp wants matrices in F16; vectors stay F32. Names, rope layout, tokenizer and chat template are
copied as they are. Left in Q4_1, llama.cpp would round the activations too, which is another distribution.
"""

import fcntl
from pathlib import Path
from typing import Any

import numpy as np

from models.bundled import FILE_DIGEST, find_bundled_file
from models.convert import get_cache_dir
from scoring.errors import MissingExtra, Unavailable

LAYOUT = 1
_OWN_KEYS = ("general.architecture", "general.file_type", "general.quantization_version")
"""What the writer sets itself."""


def prepare_f16_gguf() -> Path:
    """Return the F16 copy in the model cache (270 MB), writing it on first use (about ten seconds).

    One process writes while others wait; the file appears by one rename. Raises MissingExtra when the bundled model or
    the `gguf` package is not installed, Unavailable when the cache cannot be written.
    """
    folder = get_cache_dir() / "third-party"
    path = folder / f"bundled-{FILE_DIGEST.hex()[:16]}-f16-v{LAYOUT}.gguf"
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_file():
                write_f16_gguf(path)
    except OSError as error:
        raise Unavailable(f"cannot write {path} (QUIVER_CACHE_DIR moves the cache): {error}") from None
    return path


def write_f16_gguf(out: Path, source: Path | None = None) -> None:
    """Write the F16 copy of a GGUF file (the bundled model's unless said) to `out`, replacing what is there."""
    try:
        import gguf
    except ImportError:
        raise MissingExtra("gguf is not installed: pip install 'quiver-oracle[validator]'") from None
    reader = gguf.GGUFReader(source or find_bundled_file())
    part = out.with_suffix(".part")
    writer = gguf.GGUFWriter(part, reader.fields["general.architecture"].contents())
    _copy_metadata(reader, writer)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, decode_tensor(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(out)


def decode_tensor(tensor: Any) -> Any:
    """Return a GGUF tensor's values, outermost dimension first: matrices in float16, vectors in float32."""
    import gguf

    values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape([int(size) for size in reversed(tensor.shape)])
    return values.astype(np.float16 if values.ndim > 1 else np.float32)


def _copy_metadata(reader: Any, writer: Any) -> None:
    import gguf

    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in _OWN_KEYS:
            continue
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(key, field.contents(), field.types[0], field.types[-1] if is_array else None)
