"""The running parts without a server: who is planned at, and when."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from omni_operator.controller.runtime.manager import Manager
from omni_operator.controller.runtime.settings import Settings
from omni_operator.controller.state import decode
from omni_operator.kube.client import ApiError
from omni_operator.kube.credentials import Credentials

pytestmark = pytest.mark.looptime


def controller() -> Manager:
    return Manager(Settings(), Credentials(server="http://127.0.0.1:1", ssl=False))


class Served:
    """A client of an API server whose answers about OmniDeployments a test lays down in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests = Counter[tuple[str, str]]()

    async def __aenter__(self) -> None: ...

    async def list_page(self, _: Any, **__: Any) -> bytes:
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return b"{}"

    async def discovers(self, _: Any) -> bool:
        return self.answers[0] is True


class Port:
    """No port."""

    async def start(self) -> None: ...


NO_CRD = ApiError(404, "NotFound", "the server could not find the requested resource")
FORBIDDEN = ApiError(403, "Forbidden", "User omni-operator cannot list resource omnideployments")


async def test_nothing_begins_before_there_are_omni_deployments(caplog: pytest.LogCaptureFixture) -> None:
    """kopf would ask for them once, find nothing, and serve nobody while it says ready."""
    it, begun = controller(), list[str]()
    served: Any = Served(*[NO_CRD] * 25, False, True)
    nothing: Any = Port()
    it.kube, it._health = served, nothing
    spawn: Any = lambda name, work: (begun.append(name), work.close())  # noqa: E731
    it._spawn = spawn  # type: ignore[method-assign]
    start = asyncio.create_task(it.start())
    await asyncio.sleep(24)
    assert not begun
    assert it._waits_for == "CustomResourceDefinition omnideployments.omni.vllm.ai"
    assert [record.message.partition(": ")[0] for record in caplog.records] == [f"waiting for {it._waits_for}"] * 3
    assert "install the CRD" in caplog.text
    await asyncio.sleep(4)
    assert start.done()
    assert {"workers", "resync"} < set(begun)
    assert it._waits_for == "the caches"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (NO_CRD, "install the CRD of this release"),
        (FORBIDDEN, "cannot list resource omnideployments; apply the ClusterRole"),
        (ApiError(500, "InternalError", "etcd"), "500 InternalError: etcd"),
        (TimeoutError(), "does not answer: TimeoutError"),
        (False, "about to serve it"),
        (True, ""),
    ],
)
async def test_what_lacks_has_a_remedy(answer: Any, words: str) -> None:
    it = controller()
    served: Any = Served(answer)
    it.kube = served
    why = await it._lacks_crd()
    assert words in why
    assert bool(why) == bool(words)


def raw_omni(name: str, reasons: dict[str, str], *, deleting: bool = False) -> dict[str, Any]:
    meta = {"namespace": "ns", "name": name, "uid": name, "resourceVersion": "1"}
    conditions = [{"type": kind, "status": "True", "reason": reason} for kind, reason in reasons.items()]
    gone = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    return {"metadata": {**meta, **gone}, "spec": {}, "status": {"conditions": conditions}}


async def test_capacity_helps_those_that_wait_for_nodes() -> None:
    """Also a pipeline whose edit no node can hold, while its old revision serves and is Ready.

    Not one that starts, whose own pods change capacity all the time.
    """
    it = controller()
    it._synced = True
    well = {"Accepted": "Accepted", "Planned": "PlanFits", "Progressing": "Complete", "Ready": "Serving"}
    for raw in (
        raw_omni("well", well),
        raw_omni("no-layout", {**well, "Planned": "NoLayout"}),
        raw_omni("waits", {**well, "Planned": "WaitingForCapacity"}),
        raw_omni("drains", {**well, "Progressing": "Draining"}),
        raw_omni("starting", {**well, "Ready": "RayStarting", "Progressing": "NewRevision"}),
        raw_omni("going", well, deleting=True),
    ):
        it.store.upsert(decode.omni(raw))
    it.store.capacity_changed()
    await asyncio.sleep(2)
    planned = {await it.queue.get() for _ in range(len(it.queue))}
    assert planned == {"ns/no-layout", "ns/waits", "ns/drains", "ns/going"}
