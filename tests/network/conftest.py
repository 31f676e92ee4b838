"""The network that many tests look at, and its log kept to what went wrong."""

import logging

import pytest
import structlog
from simulation.story import Story, play_story


@pytest.fixture(scope="session", autouse=True)
def quiet_log() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


@pytest.fixture(scope="session")
def story(quiet_log: None) -> Story:
    return play_story()
