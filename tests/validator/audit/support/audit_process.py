"""`quiver audit` as a process of its own, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

LIMIT_S = 1500.0
"""Against a hang alone: a processor without bf16 instructions that has other work takes ten minutes for an audit."""


def audit(folder: Path, *arguments: object) -> tuple[int, dict]:
    """Audit the bundled model and return the exit code and the result, which is kept in `folder`."""
    result = folder / "result.json"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "quiver_oracle", "audit", "--model", "bundled", "--json", str(result)]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=LIMIT_S,
        check=False,
    )
    assert result.exists(), done.stderr[-2000:]
    return done.returncode, json.loads(result.read_text())
