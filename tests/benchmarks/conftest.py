"""A tiny random model and its int4 copy, under the names that the benchmark opens models by."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MODELS_CONFTEST = Path(__file__).resolve().parents[1] / "models" / "conftest.py"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("models_conftest", MODELS_CONFTEST)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("tiny")
    module.write_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def open_tiny(tiny_folder: Path) -> Callable[[str], Any]:
    """Open the tiny model by name: claimed, other (the claimed one under another name), or a variant."""
    from models.load import load_model
    from models.variants import apply_variant

    held: dict[str, Any] = {}

    def open_model(name: str) -> Any:
        if name not in held:
            held[name] = load_model(str(tiny_folder), dtype="fp32", device="cpu")
            if name not in ("claimed", "other"):
                apply_variant(held[name], name)
        return held[name]

    return open_model
