"""`python -P -m ledger.embedded.server`: one process that serves one ledger until it is told to stop.

Exit codes: 0 stopped by a signal, 1 the stored ledger does not verify, 2 usage.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from ledger.embedded.api import build_app
from ledger.embedded.store import LedgerStore
from ledger.state.genesis import MAX_GENESIS_BYTES
from scoring.errors import InvalidInput, OracleError, VerificationFailed

PARENT_POLL_S = 0.5
SHUTDOWN_TIMEOUT_S = 5.0


async def serve(
    store: LedgerStore,
    *,
    host: str,
    port: int,
    on_ready: Callable[[int], None],
    exit_with_parent: bool = False,
) -> None:
    """Serve a ledger until SIGTERM or SIGINT (or, when asked, the end of the parent process).

    Port 0 takes a free one; `on_ready` gets the port once connections are accepted. Raises OSError when the address is
    taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(build_app(store), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    watcher = asyncio.create_task(_watch_parent(stop)) if exit_with_parent else None
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        on_ready(int(runner.addresses[0][1]))
        await stop.wait()
    finally:
        if watcher is not None:
            watcher.cancel()
        await runner.cleanup()


def main(arguments: list[str] | None = None) -> int:
    """Run the server from the command line; returns the exit code."""
    options = _parse_arguments(arguments)
    try:
        genesis = _read_genesis(options.genesis)
        store = LedgerStore(options.data, genesis)
    except (OracleError, OSError) as error:
        print(f"quiver ledger: {error}", file=sys.stderr)
        return 1 if isinstance(error, VerificationFailed) else 2

    def announce(port: int) -> None:
        if options.port_file is not None:
            _write_whole(options.port_file, f"{port}\n")

    serving = serve(
        store, host=options.host, port=options.port, on_ready=announce, exit_with_parent=options.exit_with_parent
    )
    try:
        asyncio.run(serving)
    except OSError as error:
        print(f"quiver ledger: cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr)
        return 2
    finally:
        store.close()
    return 0


async def _watch_parent(stop: asyncio.Event) -> None:
    parent = os.getppid()
    while not stop.is_set():
        if os.getppid() != parent:
            stop.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), PARENT_POLL_S)


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="quiver ledger serve", description="Serve the embedded ledger of a network.")
    parser.add_argument("--genesis", type=Path, required=True, help="the network's genesis file")
    parser.add_argument("--data", type=Path, required=True, help="directory of the database, made if need be")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free port")
    parser.add_argument("--port-file", type=Path, help="written, with the port, once connections are accepted")
    parser.add_argument("--exit-with-parent", action="store_true", help="stop when the parent process ends")
    return parser.parse_args(arguments)


def _read_genesis(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_GENESIS_BYTES + 1)
    if len(data) > MAX_GENESIS_BYTES:
        raise InvalidInput(f"over {MAX_GENESIS_BYTES} bytes", str(path))
    return data.removesuffix(b"\n")


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that readers see it complete or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.rename(path)


if __name__ == "__main__":
    raise SystemExit(main())
