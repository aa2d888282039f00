"""One loader process per release for the whole session."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.loaders.loader import Loader
from tests.loaders.wheels import Wheel, pinned

RELEASES = [wheel.release for wheel in pinned()]


@pytest.fixture(scope="session")
def loader_of() -> Iterator[Callable[[str], Loader]]:
    """A release's loader; its process starts at the first use and ends with the session."""
    wheels: dict[str, Wheel] = {wheel.release: wheel for wheel in pinned()}
    started: dict[str, Loader] = {}
    with contextlib.ExitStack() as stack:

        def start(release: str) -> Loader:
            if release not in started:
                started[release] = stack.enter_context(Loader(wheels[release]))
            return started[release]

        yield start


@pytest.fixture(params=RELEASES)
def loader(request: pytest.FixtureRequest, loader_of: Callable[[str], Loader]) -> Loader:
    """The loader of every release in turn."""
    found: str = request.param
    return loader_of(found)
