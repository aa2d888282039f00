"""An upgrade of the operator restarts nothing, and what it makes anew for an old revision runs with what that revision has."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.children import names
from tests.unit.looks import World
from tests.unit.make import OWNER


@pytest.fixture
async def world() -> World:
    """A pipeline that is Ready, made by an operator of another version, which did not know the image check."""
    world = World()
    await world.bring_up()
    record = names.base(OWNER, world.revision)
    known = world.cache.children["ConfigMap"].get(OWNER.namespace, record)
    assert known is not None
    old: dict[str, Any] = {**known.body, "data": {**known.body["data"]}}
    del old["data"][names.IMAGE_CHECK_FILE]
    meta = {**old["metadata"], "uid": known.uid, "creationTimestamp": known.created}
    meta["annotations"] = {**meta["annotations"], names.RENDERED_BY: "0.0.9"}
    meta["resourceVersion"] = str(next(world.versions))
    world.cache.children["ConfigMap"].learn({**old, "metadata": meta})
    return world


async def test_nothing_is_written(world: World) -> None:
    for _ in range(3):
        assert await world.look() == []
    assert world.stories == []


async def test_a_deployment_that_is_made_anew_finds_its_files(world: World) -> None:
    world.lose("Deployment", world.server)
    assert ("make", f"Deployment {world.server}") in await world.look()
    made = world.cache.children["Deployment"].get(OWNER.namespace, world.server)
    assert made is not None
    (server,) = made.body["spec"]["template"]["spec"]["containers"]
    assert names.IMAGE_CHECK_FILE not in " ".join(server["command"])
    assert names.LAUNCHER_FILE in " ".join(server["command"])
