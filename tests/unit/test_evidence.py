"""What runs is what was planned, as far as the engine says so: counters of every edge, and lines of Mooncake that admit TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from omni_operator.children.names import Component
from omni_operator.controller import evidence
from omni_operator.controller.evidence import NOTHING_SEEN, Evidence, Fallback
from omni_operator.controller.objects import Pod
from omni_operator.controller.witness import Witness
from omni_operator.kube.client import ApiError
from tests.unit import make
from tests.unit.make import RDMA_NODES, TWO_NODES, inventory, node
from tests.unit.scene import Scene

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


def test_counters_name_the_edges_that_carried_something() -> None:
    assert evidence.moved(metrics(e01=2, e12=0)) == {(0, 1)}
    assert evidence.moved('vllm:num_requests{from_stage="0",to_stage="1"} 3\n') == frozenset()
    assert evidence.moved("") == frozenset()
    with pytest.raises(ValueError, match="invalid"):
        evidence.moved("<html>not metrics</html>\n")


@pytest.mark.parametrize(
    ("log", "found"), [(f"starting\n{LINE}\nready\n", LINE), ("RDMA devices: mlx5_0\n", None), ("", None)]
)
def test_the_line_that_admits_tcp(log: str, found: str | None) -> None:
    assert evidence.fallback("p", log) == (Fallback(pod="p", line=found) if found else None)


def modern(**transport: Any) -> dict[str, Any]:
    engine = {"version": "0.30.0", "backend": "Headless", "mooncakeVersion": "0.3.11.post1"}
    ones = [{"name": name, "accelerators": 1} for name in ("thinker", "talker", "code2wav")]
    return make.raw_spec(engine=engine, stages=ones, **({"transport": transport} if transport else {}))


def up(spec: dict[str, Any], *, rdma: bool = False) -> Scene:
    nodes = inventory(*(node(name, 1, rdma=8 if rdma else 0) for name in "abc"))
    scene = Scene(spec=spec, nodes=nodes)
    scene.bring_up(workers=2)
    return scene


def test_an_edge_that_nobody_used_is_never_verified() -> None:
    scene = up(modern())
    assert scene.says("TransportAsPlanned") == ("Unknown", "NotUsedYet")
    assert {edge["observed"] for edge in scene.status["plan"]["edges"]} == {"Unknown"}
    scene.look(evidence=Evidence(moved=frozenset({(0, 1)})))
    assert scene.says("TransportAsPlanned") == ("Unknown", "NotUsedYet")
    assert "talker -> code2wav" in scene.condition("TransportAsPlanned")["message"]
    assert [edge["observed"] for edge in scene.status["plan"]["edges"]] == ["Verified", "Unknown"]
    scene.look(evidence=Evidence(moved=BOTH))
    assert scene.says("TransportAsPlanned") == ("True", "TransfersCounted")
    assert scene.says("Ready")[0] == "True"


def test_counters_that_cannot_be_read_are_told() -> None:
    scene = up(modern())
    scene.look(evidence=Evidence(silent="the engine's counters (/metrics) could not be read: TimeoutError"))
    assert scene.says("TransportAsPlanned")[0] == "Unknown"
    assert "could not be read" in scene.condition("TransportAsPlanned")["message"]
    assert scene.says("Ready")[0] == "True"


@pytest.mark.parametrize(("policy", "ready"), [("Prefer", "True"), ("Require", "False")])
def test_rdma_that_is_not_used_is_told_with_edge_pod_and_line(policy: str, ready: str) -> None:
    scene = up(modern(rdma=policy), rdma=True)
    assert scene.status["transport"] == "MooncakeStore/rdma"
    scene.look(evidence=Evidence(moved=BOTH, fallbacks=(Fallback(pod="stage-1", line=LINE),)))
    assert scene.says("TransportAsPlanned") == ("False", "TransportDegraded")
    message = scene.condition("TransportAsPlanned")["message"]
    for word in ("thinker -> talker", "stage-1", "No RDMA devices found"):
        assert word in message
    assert {edge["observed"] for edge in scene.status["plan"]["edges"]} == {"Degraded"}
    assert scene.says("Ready")[0] == ready


def test_a_release_that_does_not_count_is_judged_by_placement() -> None:
    scene = Scene(nodes=TWO_NODES)
    scene.bring_up()
    assert scene.says("TransportAsPlanned") == ("True", "PlacementAsPlanned")
    with_rdma = Scene(nodes=RDMA_NODES)
    with_rdma.bring_up()
    assert with_rdma.says("TransportAsPlanned") == ("Unknown", "RdmaNotVerified")
    with_rdma.look(evidence=Evidence(fallbacks=(Fallback(pod="w", line=LINE),)))
    assert with_rdma.says("TransportAsPlanned") == ("False", "TransportDegraded")


@dataclass
class Engine:
    """A server's /metrics, and logs of pods as the API server has them."""

    page: str = ""
    pages: int = 0
    logs: dict[str, str] = field(default_factory=dict)
    logs_read: list[str] = field(default_factory=list)
    now: float = 1000.0
    port: int = 0

    async def log(self, namespace: str, name: str, *, container: str, limit_bytes: int) -> str:
        self.logs_read.append(name)
        assert container == ("server" if "serve" in name else "ray-worker")
        if name not in self.logs:
            raise ApiError(400, "BadRequest", "container is waiting to start")
        return self.logs[name][:limit_bytes]

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


def witness(engine: Engine) -> Witness:
    kube: Any = engine
    return Witness(kube=kube, clock=lambda: engine.now)


def served(engine: Engine, spec: dict[str, Any], *, rdma: bool = False) -> Scene:
    scene = up({**spec, "serving": {"port": engine.port}}, rdma=rdma)
    scene.pods = [replace(pod, address="127.0.0.1") for pod in scene.pods]
    return scene


async def ask(witness: Witness, scene: Scene, replicas: int = 1) -> tuple[Evidence, float | None]:
    return await witness.ask(scene.observed(), scene.known[scene.revision], replicas)


async def test_it_asks_rarely_and_keeps_what_it_saw_while_pods_are_the_same(engine: Engine) -> None:
    scene, asker = served(engine, modern()), witness(engine)
    engine.page = metrics(e01=1)
    assert await ask(asker, scene) == (Evidence(moved=frozenset({(0, 1)})), 15)
    assert (await ask(asker, scene))[1] == 15
    assert engine.pages == 1, "asked again before its time"
    engine.now += 15
    engine.page = metrics(e12=1)
    assert await ask(asker, scene) == (Evidence(moved=BOTH), 300)
    engine.now += 100
    assert await ask(asker, scene) == (Evidence(moved=BOTH), 200)
    assert engine.pages == 2
    scene.pods = [_restarted(pod) for pod in scene.pods]
    engine.page = metrics(e01=0)
    assert await ask(asker, scene) == (NOTHING_SEEN, 15), "other pods have shown nothing"


def _restarted(pod: Pod) -> Pod:
    return (
        replace(pod, started="2026-01-01T12:00:00Z")
        if pod.labels["omni.vllm.ai/component"] == Component.WORKER
        else pod
    )


async def test_every_replica_must_have_moved_something(engine: Engine) -> None:
    scene, asker = served(engine, modern()), witness(engine)
    engine.page = metrics(e01=1, e12=1)
    server = next(p for p in scene.pods if p.labels["omni.vllm.ai/component"] == Component.SERVING)
    second = replace(server, name="second", ready=False)
    scene.pods.append(second)
    assert await ask(asker, scene, 2) == (NOTHING_SEEN, None), "the first one's requests show nothing of the second"
    scene.pods[-1] = replace(second, ready=True, address="127.0.0.9")  # nobody answers there
    found, pause = await ask(asker, scene, 2)
    assert found.moved == frozenset()
    assert "could not be read" in found.silent
    assert pause == 60
    engine.now += 60
    scene.pods[-1] = replace(second, ready=True)
    assert (await ask(asker, scene, 2))[0].moved == BOTH
    scene.pods[-1] = second  # a moment without readiness
    assert (await ask(asker, scene, 2))[0].moved == BOTH, "what was seen stays seen"


async def test_logs_are_read_once_and_only_for_rdma(engine: Engine) -> None:
    engine.page = metrics(e01=1, e12=1)
    plain = served(engine, modern())
    await ask(witness(engine), plain)
    assert engine.logs_read == []
    scene, asker = served(engine, modern(), rdma=True), witness(engine)
    ends = sorted(p.name for p in scene.pods if p.labels["omni.vllm.ai/component"] in {"worker", "serving"})
    engine.logs = dict.fromkeys(ends[1:], "all is well\n")  # the first cannot be read yet
    found, pause = await ask(asker, scene)
    assert (found.fallbacks, found.unread, pause) == ((), (ends[0],), 60)
    assert sorted(engine.logs_read) == ends
    scene.look(evidence=found)
    assert scene.says("TransportAsPlanned") == ("Unknown", "RdmaNotVerified"), "a log that nobody read verifies nothing"
    assert {edge["observed"] for edge in scene.status["plan"]["edges"]} == {"Unknown"}
    engine.now += 60
    engine.logs[ends[0]] = f"{LINE}\n"
    assert (await ask(asker, scene))[0].fallbacks == (Fallback(pod=ends[0], line=LINE),)
    assert engine.logs_read.count(ends[0]) == 2
    assert engine.logs_read.count(ends[1]) == 1


async def test_nothing_is_asked_before_a_server_is_ready_or_where_nothing_can_be_seen(engine: Engine) -> None:
    scene = served(engine, modern())
    scene.pods = [replace(pod, ready=False) for pod in scene.pods]
    assert await ask(witness(engine), scene) == (NOTHING_SEEN, None)
    old = Scene(nodes=TWO_NODES)
    old.bring_up()
    assert await ask(witness(engine), old) == (NOTHING_SEEN, None)
    assert engine.pages == 0
