"""One turn: things are applied at once by one of four ways; what that cost until all was done."""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field, replace

from bench.scale import lws, meter, owned
from bench.scale.client import Arrivals, Client, Object, Ready
from bench.scale.meter import Audit, Cores
from e2e.control_plane import ControlPlane, free_port

OMNIS = "/apis/omni.vllm.ai/v1alpha1/namespaces/bench/omnideployments"
CLUSTERS = "/apis/ray.io/v1/namespaces/bench/rayclusters"
DEPLOYMENTS = "/apis/apps/v1/namespaces/bench/deployments"
PODS = "/api/v1/namespaces/bench/pods"
SERVICES = "/api/v1/namespaces/bench/services"
_LABEL = "omni.vllm.ai/name"
_SETTLED = 11.0  # seconds without a write; longer than the first pause of a status that only reports progress
_LONGEST = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn cost.

    Attributes:
        subject: operator, direct, kuberay or lws.
        children: Objects that each OmniDeployment became; 0 for the others.
        seconds: From the first request until the last was ready.
        writes: Of the subject's manager, by verb and kind, until it came to rest; for direct those
            of KubeRay's manager.
        cpu: Seconds of the same process over the same time.
        idle: Its memory in bytes before, with its caches begun.
        peak: The most it had.
        cores: Who used the cores until the last was ready.
    """

    subject: str
    layout: str
    size: int
    round: int
    pods: int
    children: float
    seconds: float
    writes: Counter[str]
    reads: Counter[str]
    cpu: float
    idle: int
    peak: int
    cores: Cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """What happened while nothing happened."""

    size: int
    pods: int
    seconds: float
    writes: dict[str, Counter[str]]
    reads: dict[str, Counter[str]]
    cpu: dict[str, float]


@dataclass(slots=True)
class Bench:
    """The control plane, and what the operator made on it last."""

    control_plane: ControlPlane
    client: Client
    audit: Audit
    made: list[list[Object]] = field(default_factory=list)
    _collections: set[str] = field(default_factory=set)

    def operator(
        self, spec: Object, *, layout: str, size: int, number: int, steady: float
    ) -> tuple[Turn, Steady | None]:
        """OmniDeployments; keeps the objects that the operator applied for them."""
        _start_operator(self.control_plane)
        try:
            self._warm_up([[_omni("warm", spec)]], {OMNIS: (_omni_ready, 1)})
            before = self.audit.read()
            omnis = [[_omni(name, spec)] for name in _names(size)]
            turn = self._turn("operator", omnis, {OMNIS: (_omni_ready, size)}, layout=layout, number=number)
            self._keep(before, size)
            turn = replace(turn, children=sum(len(objects) for objects in self.made) / size)
            rest = self._steady(size, steady) if steady else None
            self.clear()
        finally:
            process = self.control_plane.processes.pop("omni-operator")
            process.terminate()
            process.wait(30)
        return turn, rest

    def direct(self, *, layout: str, number: int) -> Turn:
        """The very objects of the operator's last turn, applied as by kubectl."""
        flat = [obj for objects in self.made for obj in objects]
        wanted: dict[str, tuple[Ready, int]] = {}
        for path, kind, ready in ((CLUSTERS, "RayCluster", _cluster_ready), (DEPLOYMENTS, "Deployment", _available)):
            if found := sum(obj["kind"] == kind for obj in flat):
                wanted[path] = (ready, found)
        turn = self._turn("direct", self.made, wanted, layout=layout, number=number)
        self.clear()
        return turn

    def kuberay(self, *, layout: str, number: int) -> Turn:
        """Their RayClusters alone."""
        clusters = [[cluster] for cluster in self._clusters()]
        turn = self._turn(
            "kuberay", clusters, {CLUSTERS: (_cluster_ready, len(clusters))}, layout=layout, number=number
        )
        self.clear()
        return turn

    def lws(self, *, layout: str, number: int) -> Turn:
        """A LeaderWorkerSet for each RayCluster."""
        lws.start(self.control_plane)
        try:
            groups = lws.groups(self._clusters())
            warm = [[{**groups[0][0], "metadata": {"name": "warm", "namespace": "bench"}}]]
            self._warm_up(warm, {lws.COLLECTION: (lws.ready, 1)})
            turn = self._turn("lws", groups, {lws.COLLECTION: (lws.ready, len(groups))}, layout=layout, number=number)
            self.clear()
        finally:
            lws.stop(self.control_plane)
        return turn

    def has_clusters(self) -> bool:
        """Whether the layout has RayClusters at all."""
        return bool(self._clusters())

    def clear(self) -> None:
        """Deletes everything and waits until nothing is left, nor busy with it."""
        for path in (OMNIS, CLUSTERS, lws.COLLECTION):
            if self.client.items(path + "?limit=1"):
                self.client.delete(path)
                self._gone(path)
        mine = [f"{path}?labelSelector={_LABEL}" for path in sorted(self._collections)]
        for path in mine:
            self.client.delete(path)
        kinds = ("deployments", "replicasets", "statefulsets", "controllerrevisions")
        others = [PODS, SERVICES, *(f"/apis/apps/v1/namespaces/bench/{kind}" for kind in kinds)]
        for path in (*mine, *others):
            self._gone(path)
        self._calm()

    def _gone(self, path: str) -> None:
        one = path + ("&" if "?" in path else "?") + "limit=1"
        self.control_plane.wait(
            f"nothing left in {path}", lambda: not self.client.items(one), seconds=_LONGEST, every=0.5
        )

    def _clusters(self) -> list[Object]:
        return [obj for objects in self.made for obj in objects if obj["kind"] == "RayCluster"]

    def _warm_up(self, sets: list[list[Object]], wanted: dict[str, tuple[Ready, int]]) -> None:
        """One beforehand: caches are begun and code is loaded, which is paid once."""
        with Arrivals(self.control_plane, wanted) as arrivals:
            self.client.apply(sets)
            self.control_plane.wait("the first one", arrivals.complete, seconds=120)
        for path in wanted:
            self.client.delete(path)
        for path in (*wanted, PODS, SERVICES):
            self._gone(path)
        self._calm()

    def _turn(
        self,
        subject: str,
        sets: list[list[Object]],
        wanted: dict[str, tuple[Ready, int]],
        *,
        layout: str,
        number: int,
    ) -> Turn:
        user, program = MANAGERS.get(subject, MANAGERS["kuberay"])
        process = self.control_plane.processes[program]
        with Arrivals(self.control_plane, wanted) as arrivals:
            begun, idle, cpu = self.audit.read(), meter.forget_peak(process), meter.cpu(process)
            cores, start = Cores.now(self.control_plane), time.monotonic()
            self.client.apply(sets)
            try:
                self.control_plane.wait(subject, arrivals.complete, seconds=_LONGEST, every=0.02)
            except TimeoutError as exc:
                msg = f"{exc}; ready: {arrivals.missing()}"
                raise TimeoutError(msg) from None
            used, seconds = Cores.now(self.control_plane).since(cores), arrivals.last() - start
        self._settle(user)
        calls = self.audit.since(begun, user)
        return Turn(
            subject=subject,
            layout=layout,
            size=len(sets),
            round=number,
            pods=len(self.client.items(PODS)),
            children=0,
            seconds=seconds,
            writes=meter.count(calls, writes=True),
            reads=meter.count(calls, writes=False),
            cpu=meter.cpu(process) - cpu,
            idle=idle,
            peak=meter.peak(process),
            cores=used,
        )

    def _settle(self, user: str) -> None:
        """Until a manager has written nothing for a while."""
        end, since = time.monotonic() + 60, time.monotonic()
        seen = self.audit.read()
        while time.monotonic() < end and time.monotonic() - since < _SETTLED:
            time.sleep(0.25)
            if any(call.writes for call in self.audit.since(seen, user)):
                seen, since = self.audit.read(), time.monotonic()

    def _calm(self) -> None:
        """Until the control plane uses less than a fifth of a core; a minute at most."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            before = Cores.now(self.control_plane)
            time.sleep(1)
            used = Cores.now(self.control_plane).since(before).by_process
            if sum(seconds for name, seconds in used.items() if name != "others") < 0.2:
                return

    def _steady(self, size: int, seconds: float) -> Steady:
        users = {
            user: self.control_plane.processes[program]
            for user, program in MANAGERS.values()
            if program in self.control_plane.processes
        }
        begun, cpu = self.audit.read(), {user: meter.cpu(process) for user, process in users.items()}
        time.sleep(seconds)
        calls = {user: self.audit.since(begun, user) for user in users}
        return Steady(
            size=size,
            pods=len(self.client.items(PODS)),
            seconds=seconds,
            writes={user: meter.count(found, writes=True) for user, found in calls.items()},
            reads={user: meter.count(found, writes=False) for user, found in calls.items()},
            cpu={user: meter.cpu(process) - cpu[user] for user, process in users.items()},
        )

    def _keep(self, begun: int, size: int) -> None:
        """Finds by the audit log what the operator has made, and reads it back."""
        names: dict[str, set[str]] = {}
        for call in self.audit.since(begun, "operator"):
            if (
                call.writes
                and not call.failed
                and not call.dry
                and call.kind not in _NO_CHILDREN
                and "/" not in call.kind
            ):
                root = f"/apis/{call.group}/{call.version}" if call.group else f"/api/{call.version}"
                names.setdefault(f"{root}/namespaces/bench/{call.kind}", set()).add(call.name)
        sets: dict[str, list[Object]] = {name: [] for name in _names(size)}
        # pods last, as one would
        for path in sorted(names, key=lambda path: (path in {DEPLOYMENTS, CLUSTERS}, path)):
            found = self.control_plane.get(path)
            for item in found["items"]:
                owner = item["metadata"].get("labels", {}).get(_LABEL)
                if item["metadata"]["name"] in names[path] and owner in sets:
                    whole = {**item, "apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
                    sets[owner].append(owned.applied_by("omni-operator", whole))
        self.made = list(sets.values())
        self._collections = set(names)


# subject -> (user in the audit log, program on the control plane)
MANAGERS = {
    "operator": ("operator", "omni-operator"),
    "kuberay": ("kuberay", "ray-operator"),
    "lws": ("lws", "lws-manager"),
}
_NO_CHILDREN = frozenset({"omnideployments", "events", "pods", "leases"})


def _start_operator(control_plane: ControlPlane) -> None:
    """The operator as a process of its own, with the rights of its ClusterRole."""
    port = free_port()
    env = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig("operator")), "OMNI_HTTP_PORT": str(port)}
    control_plane.spawn("omni-operator", [sys.executable, "-m", "omni_operator"], env)

    def ready() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)

    control_plane.wait("operator", ready)


def _names(count: int) -> list[str]:
    return [f"omni-{index:03d}" for index in range(count)]


def _omni(name: str, spec: Object) -> Object:
    meta = {"name": name, "namespace": "bench"}
    return {"apiVersion": "omni.vllm.ai/v1alpha1", "kind": "OmniDeployment", "metadata": meta, "spec": spec}


def _omni_ready(obj: Object) -> bool:
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _cluster_ready(obj: Object) -> bool:
    wanted = sum(group.get("replicas", 1) for group in obj["spec"].get("workerGroupSpecs") or ())
    status = obj.get("status") or {}
    return bool(status.get("state") == "ready" and status.get("readyWorkerReplicas", 0) >= wanted)


def _available(obj: Object) -> bool:
    status = obj.get("status") or {}
    current = status.get("observedGeneration") == obj["metadata"]["generation"]
    return bool(current and status.get("availableReplicas", 0) >= obj["spec"].get("replicas", 1))
