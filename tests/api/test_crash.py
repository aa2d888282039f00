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

from e2e.control_plane import OPERATOR_USER, ControlPlane
from omni_operator.children.names import Component
from tests.api.namespace_under_test import COMPONENT, NamespaceUnderTest
from tests.api.operator_process import Operator
from tests.api.snapshot import difference, snapshot

# OMNI_CRASH_SEEDS=1,2,3 draws other moments, once per seed.
_SEEDS = os.environ.get("OMNI_CRASH_SEEDS", "7").split(",")
_ARGS = {"extraArgs": ["--max-model-len=4096"]}
Step = tuple[str, Callable[[NamespaceUnderTest], Any]]
STEPS: tuple[Step, ...] = (
    ("create", lambda space: space.create(placement={"strategy": "OneNode"})),
    ("new revision", lambda space: space.edit(engine=_ARGS)),
    ("two replicas", lambda space: space.edit(replicas=2)),
    ("suspend", lambda space: space.edit(suspend=True)),
    ("resume", lambda space: space.edit(suspend=False)),
    ("to two nodes", lambda space: space.edit(placement={"strategy": "Spread"})),
    ("back to one node", lambda space: space.edit(placement={"strategy": "OneNode"})),
    ("delete", lambda space: space.delete()),
)


class Audit:
    """Counts what the operator writes, as the API server records it before it answers."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._path = control_plane.work / "audit.log"
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


def _done(space: NamespaceUnderTest) -> bool:
    """Whether a step has come to its end."""
    status, omni = space.control_plane.call("GET", space.path("demo"))
    if status == 404:
        return not space.children(pods=True)
    seen = {c["type"]: c for c in omni.get("status", {}).get("conditions", ())}
    fresh = all(c["observedGeneration"] == omni["metadata"]["generation"] for c in seen.values())
    if not seen or not fresh or seen["Progressing"]["reason"] != "Complete":
        return False
    parts = ("RayClusterReady", "ServingReady", "TransportAsPlanned", "Ready")
    if not all(seen[part]["status"] == "True" or seen[part]["reason"] == "Suspended" for part in parts):
        return False
    revisions = {c["metadata"]["labels"].get("omni.vllm.ai/revision") for c in space.children(pods=True).values()}
    suspended = omni["spec"]["suspend"]
    pods = space.list("Pod", f"{COMPONENT}!=none")
    return revisions <= {None, omni["status"]["revision"]} and bool(pods) != suspended and _memory_is_clean(pods, omni)


def _memory_is_clean(pods: list[dict[str, Any]], omni: dict[str, Any]) -> bool:
    shared = omni["status"]["transport"] == "shm" and not omni["spec"]["suspend"]
    folders = omni["status"].get("nodeMemory", ())
    busy = any(pod["metadata"]["labels"][COMPONENT] == Component.CLEANUP for pod in pods)
    wanted = omni["spec"]["replicas"] if shared else 0
    return not busy and len(folders) == wanted and bool(omni["metadata"].get("finalizers")) == shared


def _until(moment_came: Callable[[], bool], space: NamespaceUnderTest) -> None:
    """Waits for a moment, or for the end of a step that takes fewer writes this time."""
    while not _done(space):
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
def undisturbed(control_plane: ControlPlane, session_operator: Operator) -> Undisturbed:
    """The same steps without a crash: what must come out, and how many writes each step takes."""
    if not session_operator.running:
        session_operator.start()
    control_plane.ensure_namespace("undisturbed")
    space, found, audit = (
        NamespaceUnderTest(control_plane, session_operator, "undisturbed"),
        Undisturbed(),
        Audit(control_plane),
    )
    for name, act in STEPS:
        before = audit.count()
        act(space)
        space.wait(name, lambda: _done(space))
        found.writes[name] = audit.count() - before
        if name != "delete":
            found.snapshots[name] = snapshot(space)
    return found


def _assert_same(space: NamespaceUnderTest, expected: dict[str, Any], where: str) -> None:
    with contextlib.suppress(TimeoutError):  # the last status may follow a moment later
        space.wait("status", lambda: snapshot(space)["conditions"] == expected["conditions"], seconds=15)
    assert not difference(expected, snapshot(space)), where


@pytest.mark.parametrize("seed", _SEEDS)
def test_killed_at_eight_moments_the_same_objects_come_out(
    space: NamespaceUnderTest, undisturbed: Undisturbed, seed: str
) -> None:
    draw, audit = random.Random(seed), Audit(space.control_plane)
    for name, act in STEPS:
        moment = draw.randint(1, undisturbed.writes[name])
        before = audit.count()
        act(space)
        _until(lambda before=before, moment=moment: audit.count() - before >= moment, space)
        space.operator.kill()
        space.operator.start(wait=False)
        where = f"step {name!r}, killed after write {moment} of {undisturbed.writes[name]}, OMNI_CRASH_SEEDS={seed}"
        try:
            space.wait(name, lambda: _done(space), seconds=60)
        except TimeoutError as exc:
            pytest.fail(f"{where}: {exc}")
        if name != "delete":
            _assert_same(space, undisturbed.snapshots[name], where)


def test_two_operators_at_once_agree_and_rest(space: NamespaceUnderTest, undisturbed: Undisturbed) -> None:
    second = Operator(space.control_plane, "second-operator")
    second.start()
    try:
        for name, act in STEPS[:3]:
            act(space)
            space.wait(name, lambda: _done(space), seconds=60)
            _assert_same(space, undisturbed.snapshots[name], name)
        space.operator.settle()
        second.settle(calm=1)
        writes, versions = space.operator.writes() + second.writes(), space.versions()
        time.sleep(4)
        assert space.versions() == versions
        assert space.operator.writes() + second.writes() == writes
    finally:
        assert second.stop() == 0


def test_a_restarted_operator_writes_nothing_and_emits_no_event(space: NamespaceUnderTest) -> None:
    """It then reads lists, whose items differ from the objects of watch events."""
    space.create()
    space.ready()
    space.operator.settle()
    versions, events = space.versions(), len(space.events())
    space.operator.kill()
    space.operator.start()
    time.sleep(4)
    assert space.operator.writes() == 0
    assert space.versions() == versions
    assert len(space.events()) == events
