"""Options and profiles that all tests share."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import HealthCheck, settings

# "ci" is for every run, "deep" for a change of the planner:
# HYPOTHESIS_PROFILE=deep pytest tests/unit -k properties
_COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
# 430 of each make more than 10,000 examples of the planner's two dozen properties
settings.register_profile("ci", max_examples=430, derandomize=True, **_COMMON)
settings.register_profile("deep", max_examples=5000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/golden and tests/snapshots instead of comparing; review the diff before you commit it",
    )


def pytest_sessionstart() -> None:
    # On Python 3.11, looptime reads the event loop of a test without one, which creates a loop that
    # is never closed.
    asyncio.set_event_loop(None)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))
