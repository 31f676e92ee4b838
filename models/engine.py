"""The reference engine's process: `python -P -m models.engine --socket PATH --model bundled --dtype bf16`.

It listens once the model is loaded, serves until SIGTERM or SIGINT, and ends when its parent does.
"""

import argparse
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from models.load import ATTENTIONS, DEVICES
from models.manifest import DTYPES
from scoring.errors import OracleError

_PARENT_POLL_S = 1.0
_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an engine; return 0 after a signal, 1 when it cannot start (the reason is on standard error)."""
    options = _parse(arguments)
    if not options.outlive_parent:
        end_with_parent()
    try:
        return _serve(options)
    except OracleError as error:
        sys.stderr.write(f"engine: {error}\n")
        return 1


def end_with_parent() -> None:
    """Have this process killed when its parent dies: by the kernel on Linux, by polling everywhere."""
    parent = os.getppid()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _serve(options: argparse.Namespace) -> int:
    # Torch only from here on: `--help` and wrong arguments answer at once.
    from models.engine_desk import Desk
    from models.engine_work import Worker
    from models.packing import load_packed

    loaded = load_packed(options.model, dtype=options.dtype, device=options.device, attn=options.attention)
    worker = Worker(loaded)
    desk = Desk(loaded, worker, options.socket)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    desk.start()
    sys.stderr.write(f"engine: {loaded.manifest.name} in {loaded.dtype} on {loaded.device} at {options.socket}\n")
    sys.stderr.flush()
    try:
        worker.run()
    finally:
        desk.close()
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="models.engine", description="Serve reference statistics on a Unix socket.")
    parser.add_argument("--socket", type=Path, required=True, help="path of the Unix socket to listen on")
    parser.add_argument("--model", default="bundled", help="bundled, a folder, a .gguf file or a Hugging Face id")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--attention", choices=ATTENTIONS, default="sdpa")
    parser.add_argument("--outlive-parent", action="store_true", help="keep running when the parent process ends")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
