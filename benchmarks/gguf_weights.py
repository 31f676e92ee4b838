"""The bundled model as a GGUF file, in F16 or quantised by llama.cpp's own formats, for engines that read nothing else.

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
from scoring.errors import InvalidInput, MissingExtra, Unavailable

LAYOUT = 1
F16 = "F16"
QUANTISED = ("Q8_0", "Q5_0", "Q4_0")
"""Formats of the matrices in the layers; the embedding, which is also the last matrix, is Q8_0 then."""
_EMBEDDING, _EMBEDDING_FORMAT = "token_embd.weight", "Q8_0"
_OWN_KEYS = ("general.architecture", "general.file_type", "general.quantization_version")
"""What the writer sets itself."""


def prepare_gguf(format_name: str = F16) -> Path:
    """Return the copy in the model cache (270 MB in F16), writing it on first use (about ten seconds).

    One process writes while others wait; the file appears by one rename. Raises InvalidInput for another format,
    MissingExtra when the bundled model or the `gguf` package is not installed, Unavailable when the cache cannot be
    written.
    """
    if format_name not in (F16, *QUANTISED):
        raise InvalidInput(f"expected one of {', '.join((F16, *QUANTISED))}", "format_name")
    folder = get_cache_dir() / "third-party"
    path = folder / f"bundled-{FILE_DIGEST.hex()[:16]}-{format_name.lower()}-v{LAYOUT}.gguf"
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.is_file():
                write_gguf(path, format_name)
    except OSError as error:
        raise Unavailable(f"cannot write {path} (QUIVER_CACHE_DIR moves the cache): {error}") from None
    return path


def write_gguf(out: Path, format_name: str = F16, source: Path | None = None) -> None:
    """Write the copy of a GGUF file (the bundled model's unless said) to `out`, replacing what is there."""
    try:
        import gguf
    except ImportError:
        raise MissingExtra("gguf is not installed: pip install 'quiver-oracle[validator]'") from None
    reader = gguf.GGUFReader(source or find_bundled_file())
    part = out.with_suffix(".part")
    writer = gguf.GGUFWriter(part, reader.fields["general.architecture"].contents())
    _copy_metadata(reader, writer)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{format_name}"])
    for tensor in reader.tensors:
        values = decode_tensor(tensor)
        if format_name == F16 or values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            kind = gguf.GGMLQuantizationType[_EMBEDDING_FORMAT if tensor.name == _EMBEDDING else format_name]
            writer.add_tensor(tensor.name, gguf.quantize(values.astype(np.float32), kind), raw_dtype=kind)
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
