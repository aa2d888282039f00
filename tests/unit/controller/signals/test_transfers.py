"""What runs is what was planned, as far as the engine says so.

Counters of every edge, and lines of Mooncake that admit TCP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from omni_operator.children.names import Component
from omni_operator.controller.signals.reading import counted_edges, rdma_fallback
from omni_operator.controller.signals.transfers import TransferMonitor
from omni_operator.controller.state.objects import Pod
from omni_operator.controller.state.signals import NOT_OBSERVED, Fallback, TransferObservation
from omni_operator.engine.releases import release_of
from omni_operator.kube.client import ApiError
from tests.unit import make
from tests.unit.controller.fake_cluster import FakeCluster
from tests.unit.make import RDMA_NODES, TWO_NODES, inventory, node

BOTH = frozenset({(0, 1), (1, 2)})
LINE = "W1125 transfer_engine_impl.cpp:210] No RDMA devices found, fall back to TCP"


def metrics(**counts: float) -> str:
    """As 0.30 writes them."""
    lines = [
        "# HELP vllm_omni:transfer_size_bytes Size of payloads.",
        "# TYPE vllm_omni:transfer_size_bytes histogram",
    ]
    for edge, count in counts.items():
        ends = f'from_stage="{edge[1]}",to_stage="{edge[2]}"'
        lines += [
            f'vllm_omni:transfer_size_bytes_bucket{{{ends},le="+Inf"}} {count}',
            f"vllm_omni:transfer_size_bytes_sum{{{ends}}} {count * 1024}",
            f"vllm_omni:transfer_size_bytes_count{{{ends}}} {count}",
        ]
    return "\n".join([*lines, ""])


def edges_in(page: str) -> frozenset[tuple[int, int]]:
    counter = release_of("0.30").transfer_counter
    assert counter is not None
    return counted_edges(page, counter)


def test_counters_name_the_edges_that_carried_something() -> None:
    assert edges_in(metrics(e01=2, e12=0)) == {(0, 1)}
    assert edges_in('vllm:num_requests{from_stage="0",to_stage="1"} 3\n') == frozenset()
    assert edges_in("") == frozenset()
    with pytest.raises(ValueError, match="invalid"):
        edges_in("<html>not metrics</html>\n")


@pytest.mark.parametrize(
    ("log", "found"), [(f"starting\n{LINE}\nready\n", LINE), ("RDMA devices: mlx5_0\n", None), ("", None)]
)
def test_the_line_that_admits_tcp(log: str, found: str | None) -> None:
    assert rdma_fallback("p", log, [release_of("0.30").rdma_fallback]) == (
        Fallback(pod="p", text=found) if found else None
    )


def modern(**transport: Any) -> dict[str, Any]:
    engine = {"version": "0.30.0", "backend": "Headless", "mooncakeVersion": "0.3.11.post1"}
    ones = [{"name": name, "accelerators": 1} for name in ("thinker", "talker", "code2wav")]
    return make.raw_spec(engine=engine, stages=ones, **({"transport": transport} if transport else {}))


def up(spec: dict[str, Any], *, rdma: bool = False) -> FakeCluster:
    nodes = inventory(*(node(name, 1, rdma=8 if rdma else 0) for name in "abc"))
    cluster = FakeCluster(spec=spec, nodes=nodes)
    cluster.bring_up(workers=2)
    return cluster


def test_an_edge_that_nobody_used_is_never_verified() -> None:
    cluster = up(modern())
    assert cluster.says("TransportAsPlanned") == ("Unknown", "NotUsedYet")
    assert {edge["observed"] for edge in cluster.status["plan"]["edges"]} == {"Unknown"}
    cluster.transfers = TransferObservation(counted=frozenset({(0, 1)}))
    cluster.reconcile()
    assert cluster.says("TransportAsPlanned") == ("Unknown", "NotUsedYet")
    assert "talker -> code2wav" in cluster.condition("TransportAsPlanned")["message"]
    assert [edge["observed"] for edge in cluster.status["plan"]["edges"]] == ["Verified", "Unknown"]
    cluster.transfers = TransferObservation(counted=BOTH)
    cluster.reconcile()
    assert cluster.says("TransportAsPlanned") == ("True", "TransfersCounted")
    assert cluster.says("Ready")[0] == "True"


def test_counters_that_cannot_be_read_are_told() -> None:
    cluster = up(modern())
    cluster.transfers = TransferObservation(
        counters_error="the engine's counters (/metrics) could not be read: TimeoutError"
    )
    cluster.reconcile()
    assert cluster.says("TransportAsPlanned")[0] == "Unknown"
    assert "could not be read" in cluster.condition("TransportAsPlanned")["message"]
    assert cluster.says("Ready")[0] == "True"


@pytest.mark.parametrize(("policy", "ready"), [("Prefer", "True"), ("Require", "False")])
def test_rdma_that_is_not_used_is_told_with_edge_pod_and_line(policy: str, ready: str) -> None:
    cluster = up(modern(rdma=policy), rdma=True)
    assert cluster.status["transport"] == "MooncakeStore/rdma"
    cluster.transfers = TransferObservation(counted=BOTH, fallbacks=(Fallback(pod="stage-1", text=LINE),))
    cluster.reconcile()
    assert cluster.says("TransportAsPlanned") == ("False", "TransportDegraded")
    message = cluster.condition("TransportAsPlanned")["message"]
    for word in ("thinker -> talker", "stage-1", "No RDMA devices found"):
        assert word in message
    assert {edge["observed"] for edge in cluster.status["plan"]["edges"]} == {"Degraded"}
    assert cluster.says("Ready")[0] == ready


def test_a_release_that_does_not_count_is_judged_by_placement() -> None:
    cluster = FakeCluster(nodes=TWO_NODES)
    cluster.bring_up()
    assert cluster.says("TransportAsPlanned") == ("True", "PlacementAsPlanned")
    with_rdma = FakeCluster(nodes=RDMA_NODES)
    with_rdma.bring_up()
    assert with_rdma.says("TransportAsPlanned") == ("Unknown", "RdmaNotVerified")
    with_rdma.transfers = TransferObservation(fallbacks=(Fallback(pod="w", text=LINE),))
    with_rdma.reconcile()
    assert with_rdma.says("TransportAsPlanned") == ("False", "TransportDegraded")


@dataclass
class Engine:
    """A server's /metrics, and logs of pods as the API server has them."""

    page: str = ""
    pages: int = 0
    logs: dict[str, str] = field(default_factory=dict)
    logs_read: list[str] = field(default_factory=list)
    pauses: asyncio.Queue[float] = field(default_factory=asyncio.Queue)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    woken: int = 0
    port: int = 0

    async def log(self, namespace: str, name: str, *, container: str, limit_bytes: int) -> str:
        self.logs_read.append(name)
        assert container == ("server" if "serve" in name else "ray-worker")
        if name not in self.logs:
            raise ApiError(400, "BadRequest", "container is waiting to start")
        return self.logs[name][:limit_bytes]

    async def sleep(self, seconds: float) -> None:
        """The pause of the monitor, which ends when the test says so."""
        self.pauses.put_nowait(seconds)
        await self.go_on.wait()
        self.go_on.clear()

    def wake(self, _: str) -> None:
        self.woken += 1

    async def answer(self, _: web.Request) -> web.Response:
        self.pages += 1
        return web.Response(text=self.page)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine()
    app = web.Application()
    app.add_routes([web.get("/metrics", made.answer)])
    server = TestServer(app)
    await server.start_server()
    made.port = server.port or 0
    yield made
    await server.close()


@pytest.fixture
async def monitor(engine: Engine) -> AsyncIterator[TransferMonitor]:
    kube: Any = engine
    made = TransferMonitor(kube=kube, wake=engine.wake, sleep=engine.sleep)
    yield made
    await made.close()


def served(engine: Engine, spec: dict[str, Any], *, rdma: bool = False) -> FakeCluster:
    cluster = up({**spec, "serving": {"port": engine.port}}, rdma=rdma)
    cluster.pods = [replace(pod, address="127.0.0.1") for pod in cluster.pods]
    return cluster


def refresh(monitor: TransferMonitor, cluster: FakeCluster, replicas: int = 1) -> TransferObservation:
    """What a reconcile does after it has written; what is known until now."""
    active = cluster.revisions[cluster.revision]
    pods = list(cluster.snapshot().pods_of(active.name))
    monitor.refresh("uid", key="shop/omni", active=active, pods=pods, replicas=replicas)
    return monitor.observation("uid")


async def observe(
    monitor: TransferMonitor, cluster: FakeCluster, engine: Engine, replicas: int = 1
) -> tuple[TransferObservation, float]:
    """What is known after the engines were asked, and the pause before they are asked again."""
    refresh(monitor, cluster, replicas)
    pause = await asyncio.wait_for(engine.pauses.get(), 10)
    return monitor.observation("uid"), pause


async def test_it_asks_rarely_and_keeps_what_it_saw_while_pods_are_the_same(
    engine: Engine, monitor: TransferMonitor
) -> None:
    cluster = served(engine, modern())
    engine.page = metrics(e01=1)
    assert await observe(monitor, cluster, engine) == (TransferObservation(counted=frozenset({(0, 1)})), 15)
    for _ in range(3):
        refresh(monitor, cluster)
        await asyncio.sleep(0)
    assert engine.pages == 1, "asked again before its time"
    engine.page = metrics(e12=1)
    engine.go_on.set()
    assert await observe(monitor, cluster, engine) == (TransferObservation(counted=BOTH), 300)
    assert (engine.pages, engine.woken) == (2, 2)
    engine.go_on.set()
    assert await observe(monitor, cluster, engine) == (TransferObservation(counted=BOTH), 300)
    assert engine.woken == 2, "nothing new is no reason to reconcile"
    cluster.pods = [_restarted(pod) for pod in cluster.pods]
    engine.page = metrics(e01=0)
    assert await observe(monitor, cluster, engine) == (NOT_OBSERVED, 15), "other pods have shown nothing"


def _restarted(pod: Pod) -> Pod:
    worker = pod.labels["omni.vllm.ai/component"] == Component.WORKER
    return replace(pod, started="2026-01-01T12:00:00Z") if worker else pod


async def test_every_replica_must_have_moved_something(engine: Engine, monitor: TransferMonitor) -> None:
    cluster = served(engine, modern())
    engine.page = metrics(e01=1, e12=1)
    server = next(p for p in cluster.pods if p.labels["omni.vllm.ai/component"] == Component.SERVING)
    second = replace(server, name="second", ready=False)
    cluster.pods.append(second)
    assert refresh(monitor, cluster, 2) == NOT_OBSERVED, "the first one's requests show nothing of the second"
    cluster.pods[-1] = replace(second, ready=True, address="127.0.0.9")  # nobody answers there
    found, pause = await observe(monitor, cluster, engine, 2)
    assert found.counted == frozenset()
    assert "could not be read" in found.counters_error
    assert pause == 60
    cluster.pods[-1] = replace(second, ready=True)
    assert (await observe(monitor, cluster, engine, 2))[0].counted == BOTH
    cluster.pods[-1] = second  # a moment without readiness
    assert refresh(monitor, cluster, 2).counted == BOTH, "what was seen stays seen"


async def test_logs_are_read_once_and_only_for_rdma(engine: Engine, monitor: TransferMonitor) -> None:
    engine.page = metrics(e01=1, e12=1)
    await observe(monitor, served(engine, modern()), engine)
    assert engine.logs_read == []
    monitor.forget("uid")
    cluster = served(engine, modern(), rdma=True)
    ends = sorted(p.name for p in cluster.pods if p.labels["omni.vllm.ai/component"] in {"worker", "serving"})
    engine.logs = dict.fromkeys(ends[1:], "all is well\n")  # the first cannot be read yet
    found, pause = await observe(monitor, cluster, engine)
    assert (found.fallbacks, found.unreadable_logs, pause) == ((), (ends[0],), 60)
    assert sorted(engine.logs_read) == ends
    cluster.transfers = found
    cluster.reconcile()
    assert cluster.says("TransportAsPlanned") == ("Unknown", "RdmaNotVerified"), "an unread log verifies nothing"
    assert {edge["observed"] for edge in cluster.status["plan"]["edges"]} == {"Unknown"}
    engine.logs[ends[0]] = f"{LINE}\n"
    engine.go_on.set()
    assert (await observe(monitor, cluster, engine))[0].fallbacks == (Fallback(pod=ends[0], text=LINE),)
    assert engine.logs_read.count(ends[0]) == 2
    assert engine.logs_read.count(ends[1]) == 1


async def test_nothing_is_asked_before_a_server_is_ready_or_where_nothing_can_be_seen(
    engine: Engine, monitor: TransferMonitor
) -> None:
    cluster = served(engine, modern())
    cluster.pods = [replace(pod, ready=False) for pod in cluster.pods]
    assert refresh(monitor, cluster) == NOT_OBSERVED
    old = FakeCluster(nodes=TWO_NODES)
    old.bring_up()
    assert refresh(monitor, old) == NOT_OBSERVED
    await asyncio.sleep(0.05)
    assert engine.pages == 0
