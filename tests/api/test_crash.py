"""A crash at any moment, or a second operator, changes nothing in what comes out."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.plane import OPERATOR_USER, Plane
from tests.api.operator_process import Operator
from tests.api.snapshot import difference, snapshot
from tests.api.world import COMPONENT, World

# OMNI_CRASH_SEEDS=1,2,3 draws other moments, once per seed.
_SEEDS = os.environ.get("OMNI_CRASH_SEEDS", "7").split(",")
_ARGS = {"extraArgs": ["--max-model-len=4096"]}
Step = tuple[str, Callable[[World], Any]]
STEPS: tuple[Step, ...] = (
    ("create", lambda world: world.create(placement={"strategy": "OneNode"})),
    ("new revision", lambda world: world.edit(engine=_ARGS)),
    ("two replicas", lambda world: world.edit(replicas=2)),
    ("suspend", lambda world: world.edit(suspend=True)),
    ("resume", lambda world: world.edit(suspend=False)),
    ("to two nodes", lambda world: world.edit(placement={"strategy": "Spread"})),
    ("back to one node", lambda world: world.edit(placement={"strategy": "OneNode"})),
    ("delete", lambda world: world.delete()),
)


class Audit:
    """Counts what the operator writes, as the API server records it before it answers."""

    def __init__(self, plane: Plane) -> None:
        self._path = plane.work / "audit.log"
        self._offset = self._path.stat().st_size
        self._rest = ""
        self.writes = 0

    def count(self) -> int:
        with self._path.open() as log:
            log.seek(self._offset)
            *lines, self._rest = (self._rest + log.read()).split("\n")
            self._offset = log.tell()
        for line in lines:
            if OPERATOR_USER in line and json.loads(line)["verb"] in {"create", "patch", "delete"}:
                self.writes += 1
        return self.writes


def _done(world: World) -> bool:
    """Whether a step has come to its end."""
    status, omni = world.plane.call("GET", world.path("demo"))
    if status == 404:
        return not world.children(pods=True)
    seen = {c["type"]: c for c in omni.get("status", {}).get("conditions", ())}
    fresh = all(c["observedGeneration"] == omni["metadata"]["generation"] for c in seen.values())
    if not seen or not fresh or seen["Progressing"]["reason"] != "Complete":
        return False
    parts = ("RayClusterReady", "ServingReady", "TransportAsPlanned", "Ready")
    if not all(seen[part]["status"] == "True" or seen[part]["reason"] == "Suspended" for part in parts):
        return False
    revisions = {c["metadata"]["labels"].get("omni.vllm.ai/revision") for c in world.children(pods=True).values()}
    suspended = omni["spec"]["suspend"]
    pods = world.list("Pod", f"{COMPONENT}!=none")
    return revisions <= {None, omni["status"]["revision"]} and bool(pods) != suspended and _swept(pods, omni)


def _swept(pods: list[dict[str, Any]], omni: dict[str, Any]) -> bool:
    shared = omni["status"]["transport"] == "shm" and not omni["spec"]["suspend"]
    folders = omni["status"].get("nodeMemory", ())
    busy = any(pod["metadata"]["labels"][COMPONENT] == "sweeper" for pod in pods)
    wanted = omni["spec"]["replicas"] if shared else 0
    return not busy and len(folders) == wanted and bool(omni["metadata"].get("finalizers")) == shared


def _until(moment_came: Callable[[], bool], world: World) -> None:
    """Until a moment in milliseconds' reach, or the end of the step where it took fewer writes this time."""
    while not _done(world):
        soon = time.monotonic() + 1
        while time.monotonic() < soon:
            if moment_came():
                return
            time.sleep(0.002)


@dataclass
class Undisturbed:
    snapshots: dict[str, Any] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def undisturbed(plane: Plane, session_operator: Operator) -> Undisturbed:
    """The same steps without a crash: what must come out, and how many writes each step takes."""
    if not session_operator.running:
        session_operator.start()
    plane.ensure_namespace("undisturbed")
    world, found, audit = World(plane, session_operator, "undisturbed"), Undisturbed(), Audit(plane)
    for name, act in STEPS:
        before = audit.count()
        act(world)
        world.wait(name, lambda: _done(world))
        found.writes[name] = audit.count() - before
        if name != "delete":
            found.snapshots[name] = snapshot(world)
    return found


def _assert_same(world: World, expected: dict[str, Any], where: str) -> None:
    with contextlib.suppress(TimeoutError):  # the last status may follow a moment later
        world.wait("status", lambda: snapshot(world)["conditions"] == expected["conditions"], seconds=15)
    assert not difference(expected, snapshot(world)), where


@pytest.mark.parametrize("seed", _SEEDS)
def test_killed_at_eight_moments_the_same_objects_come_out(world: World, undisturbed: Undisturbed, seed: str) -> None:
    draw, audit = random.Random(seed), Audit(world.plane)
    for name, act in STEPS:
        moment = draw.randint(1, undisturbed.writes[name])
        before = audit.count()
        act(world)
        _until(lambda before=before, moment=moment: audit.count() - before >= moment, world)
        world.operator.kill()
        world.operator.start(wait=False)
        where = f"step {name!r}, killed after write {moment} of {undisturbed.writes[name]}, OMNI_CRASH_SEEDS={seed}"
        try:
            world.wait(name, lambda: _done(world), seconds=60)
        except TimeoutError as exc:
            pytest.fail(f"{where}: {exc}")
        if name != "delete":
            _assert_same(world, undisturbed.snapshots[name], where)


def test_two_operators_at_once_agree_and_rest(world: World, undisturbed: Undisturbed) -> None:
    second = Operator(world.plane, "second-operator")
    second.start()
    try:
        for name, act in STEPS[:3]:
            act(world)
            world.wait(name, lambda: _done(world), seconds=60)
            _assert_same(world, undisturbed.snapshots[name], name)
        world.operator.settle()
        second.settle(calm=1)
        writes, versions = world.operator.writes() + second.writes(), world.versions()
        time.sleep(4)
        assert world.versions() == versions
        assert world.operator.writes() + second.writes() == writes
    finally:
        assert second.stop() == 0


def test_an_operator_that_starts_anew_writes_nothing_and_tells_nothing(world: World) -> None:
    """It knows everything from lists then, whose entries are not what watches send."""
    world.create()
    world.ready()
    world.operator.settle()
    versions, events = world.versions(), len(world.events())
    world.operator.kill()
    world.operator.start()
    time.sleep(4)
    assert world.operator.writes() == 0
    assert world.versions() == versions
    assert len(world.events()) == events
