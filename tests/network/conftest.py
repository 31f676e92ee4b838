"""Makes `simulation` importable: whole networks in one process. Their log is kept to what went wrong."""

import logging
import sys
from pathlib import Path

import pytest
import structlog

sys.path.insert(0, str(Path(__file__).parent))

from simulation.story import Story, play_story


@pytest.fixture(scope="session", autouse=True)
def quiet_log() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


@pytest.fixture(scope="session")
def story(quiet_log: None) -> Story:
    return play_story()
