"""What the judge is worth: measured on known answers, in a process of its own, and said plainly.

The measurement depends on the model and the items alone, so it is made once and kept beside the converted model.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from models.convert import get_cache_dir
from models.profiles import load_profile
from scoring.errors import Unavailable
from scoring.hashing import tagged_digest
from validator.cli.output import write_file

TIMEOUT_S = 600


def describe_judge(environment: Mapping[str, str]) -> str:
    """Return a sentence about the bundled model as a judge; raises Unavailable when it cannot be measured."""
    path = _find_path()
    if not path.is_file():
        write_file(path, _measure(environment))
    return str(json.loads(path.read_bytes())["description"])


def is_measured() -> bool:
    """Tell whether the measurement has been made before."""
    return _find_path().is_file()


def _measure(environment: Mapping[str, str]) -> bytes:
    command = [sys.executable, "-P", "-m", "quiver_oracle", "model", "judge", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, env=dict(environment))
    except subprocess.TimeoutExpired:
        raise Unavailable(f"the judge was not measured within {TIMEOUT_S} s") from None
    if done.returncode:
        raise Unavailable(f"the judge could not be measured:\n{done.stderr[-1000:].decode(errors='replace')}")
    return done.stdout


def _find_path() -> Path:
    items = resources.files("models").joinpath("data", "judge_items.json").read_bytes()
    digest = tagged_digest("quiver-judge-measurement", load_profile().manifest_digest, items)
    return get_cache_dir() / f"judge-{digest.hex()[:16]}.json"
