"""What the judge is worth: measured on known answers, in a process of its own, and said plainly."""

import json
import subprocess
from pathlib import Path

from scoring.errors import Unavailable
from validator.processes import Child, spawn

TIMEOUT_S = 180


def start_judging(directory: Path, environment: dict[str, str]) -> Child:
    """Start measuring the bundled model as a judge; its result is read with `read_judgement`."""
    arguments = ["model", "judge", "--json"]
    return spawn("judge", "quiver_oracle", arguments, log_path=_result_path(directory), environment=environment)


def read_judgement(directory: Path, child: Child) -> str:
    """Wait for the measurement and return it as a sentence; raises Unavailable when it failed."""
    try:
        child.process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"the judge was not measured within {TIMEOUT_S} s") from None
    text = _result_path(directory).read_text()
    if child.process.returncode:
        raise Unavailable(f"the judge could not be measured:\n{text[-1000:]}")
    return str(json.loads(text[text.index("{") :])["description"])


def _result_path(directory: Path) -> Path:
    return directory / "logs" / "judge.json"
