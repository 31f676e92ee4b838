"""Provider processes for the tests: started as a user would start them, ended by the fixture that started them."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from challenges.signed import SignedOffer
from validator.provider.config import write_config

MODEL = "smollm2-135m-instruct"
START_S = 180.0


@dataclass(frozen=True)
class Running:
    """A provider process and where it listens."""

    process: subprocess.Popen
    url: str
    folder: Path

    @property
    def offer(self) -> SignedOffer:
        return SignedOffer.from_json(httpx.get(f"{self.url}/quiver/offer").json())

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


def start(folder: Path, module: str, **values: object) -> Running:
    """Start `python -P -m module --config FILE` and wait until it serves."""
    folder.mkdir(exist_ok=True, parents=True)
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    write_config(folder / "config.json", {"data_dir": ".", "port": 0, "port_file": "port", **values})
    log = (folder / "log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, "--config", str(folder / "config.json")],
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
    )
    log.close()
    end_s = time.monotonic() + START_S
    while not port_file.exists():
        if process.poll() is not None or time.monotonic() > end_s:
            process.kill()
            raise RuntimeError((folder / "log").read_text()[-2000:])
        time.sleep(0.1)
    return Running(process=process, url=f"http://127.0.0.1:{port_file.read_text().strip()}", folder=folder)


@pytest.fixture(scope="session")
def launch(tmp_path_factory):
    """Start provider or proxy processes that end with the session."""
    started: list[Running] = []

    def launch_one(module: str, folder: Path | None = None, **values: object) -> Running:
        running = start(folder or tmp_path_factory.mktemp("provider"), module, **values)
        started.append(running)
        return running

    yield launch_one
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@pytest.fixture(scope="session")
def provider(launch) -> Running:
    """One honest provider in bf16 for all tests."""
    return launch("validator.provider.server", input_price_wei="2", output_price_wei="5", max_context_tokens=512)
