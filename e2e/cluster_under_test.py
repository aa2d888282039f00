"""The kind cluster of tests and the demo: images, operator, fake devices, objects, requests."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e import diagnostics, operator_image
from e2e.cluster import binaries, images, kind, nodes, shell
from e2e.engine import build as engine
from omni_operator.cli.access import Access, AccessError

ROOT = Path(__file__).parent.parent
STANDIN = engine.IMAGES["standin"]
ENGINE = engine.IMAGES["vllm-omni"]
MODERN = engine.IMAGES["vllm-omni-0.30"]
SYSTEM = "omni-system"
GPU, RDMA = "nvidia.com/gpu", "rdma/hca"


def up(*, with_engine: bool, with_standin: bool) -> None:
    """Cluster, images and operator; what exists is reused."""
    kind.up()
    operator = operator_image.ensure()
    images.load(operator)
    if with_standin:
        engine.ensure("standin")
        images.load(STANDIN)
    if with_engine:
        engine.ensure("vllm-omni")
        images.load(ENGINE)
    install(operator)


def modern() -> None:
    """The image of vllm-omni 0.30, on the nodes."""
    engine.ensure("vllm-omni-0.30")
    images.load(MODERN)


def install(image: str) -> None:
    """The operator from the chart, as a user installs it."""
    repository, _, tag = image.rpartition(":")
    namespace(SYSTEM, labels={"pod-security.kubernetes.io/enforce": "restricted"})
    with shell.step("helm upgrade --install omni-operator"):
        command = [
            str(binaries.ensure("helm")), "upgrade", "--install", "omni-operator", str(ROOT / "charts/omni-operator"),
            "--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "3m",
            "--set", f"image.repository={repository}", "--set", f"image.tag={tag}",
        ]  # fmt: skip
        shell.run([*command, "--kubeconfig", str(nodes.kubeconfig())])


def kubectl_json(*args: str) -> Any:
    """The parsed answer of kubectl with -o json."""
    return json.loads(nodes.kubectl(*args, "-o", "json"))


def apply(*objects: dict[str, Any]) -> None:
    """Applies objects as `kubectl apply` does."""
    nodes.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def eventually(what: str, test: Callable[[], Any], *, seconds: float, every: float = 1.0) -> Any:
    """The first true answer of `test`; a failing kubectl counts as not yet."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if last := test():
                return last
        except (shell.CommandError, AccessError, KeyError, IndexError) as exc:
            last = exc
        time.sleep(every)
    msg = f"{what}: not within {seconds:.0f} s; last: {last}"
    raise TimeoutError(msg)


@contextmanager
def devices(**counts: dict[str, int]) -> Iterator[None]:
    """Workers that advertise extended resources, as device plugins would (worker={GPU: 2})."""
    patched: list[tuple[str, str]] = []
    try:
        for worker, resources in counts.items():
            for name, count in resources.items():
                set_device(nodes.full_name(worker), name, count)
                patched.append((nodes.full_name(worker), name))
        yield
    finally:
        for node, name in patched:
            set_device(node, name, None)


def set_device(node: str, name: str, count: int | None) -> None:
    """Makes a node advertise so many devices, or none of the name."""
    key = name.replace("/", "~1")
    if count is None:
        patch = [{"op": "remove", "path": f"/status/{part}/{key}"} for part in ("capacity", "allocatable")]
    else:
        patch = [
            {"op": "add", "path": f"/status/{part}/{key}", "value": str(count)} for part in ("capacity", "allocatable")
        ]
    nodes.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch))


@dataclass(frozen=True, slots=True)
class Omni:
    """One OmniDeployment of a test."""

    namespace: str
    name: str

    def apply(self, **spec: Any) -> None:
        """Creates or replaces it; `spec` is the spec's top-level fields."""
        apply(manifest(self.namespace, self.name, spec))

    def get(self) -> dict[str, Any]:
        """The object."""
        found: dict[str, Any] = kubectl_json("get", "omni", self.name, "-n", self.namespace)
        return found

    def status(self) -> dict[str, Any]:
        """Its status, empty at first."""
        return dict(self.get().get("status") or {})

    def condition(self, kind: str) -> dict[str, Any]:
        """One condition, judged for the current spec; empty when there is none yet."""
        found = self.get()
        generation = found["metadata"]["generation"]
        for condition in found.get("status", {}).get("conditions") or ():
            if condition["type"] == kind and condition.get("observedGeneration") == generation:
                return dict(condition)
        return {}

    def wait(
        self, kind: str, status: str = "True", *, reason: str | None = None, seconds: float = 300
    ) -> dict[str, Any]:
        """Until a condition has a status (and reason)."""

        def there() -> dict[str, Any] | None:
            found = self.condition(kind)
            fits = found.get("status") == status and (reason is None or found.get("reason") == reason)
            return found if fits else None

        try:
            return dict(eventually(f"{self.name}: {kind}={status}", there, seconds=seconds))
        except TimeoutError as exc:
            raise TimeoutError(f"{exc}\n{self.diagnostics()}") from exc

    def patch(self, spec: dict[str, Any]) -> None:
        """A merge patch of the spec."""
        nodes.kubectl(
            "patch", "omni", self.name, "-n", self.namespace, "--type=merge", "-p", json.dumps({"spec": spec})
        )

    def delete(self, *, wait: bool = True) -> None:
        """Deletes it."""
        nodes.kubectl(
            "delete", "omni", self.name, "-n", self.namespace, "--ignore-not-found", f"--wait={str(wait).lower()}"
        )

    def objects(self) -> list[str]:
        """Everything that carries its name in our label, as kind/name."""
        kinds = "pods,rayclusters,deployments,replicasets,services,configmaps,networkpolicies,poddisruptionbudgets"
        found = kubectl_json("get", kinds, "-n", self.namespace, "-l", f"omni.vllm.ai/name={self.name}")
        return sorted(f"{o['kind']}/{o['metadata']['name']}" for o in found["items"])

    def pods(self, component: str | None = None) -> list[dict[str, Any]]:
        """Its pods."""
        label = f"omni.vllm.ai/name={self.name}" + (f",omni.vllm.ai/component={component}" if component else "")
        return list(kubectl_json("get", "pods", "-n", self.namespace, "-l", label)["items"])

    def stage_config(self) -> str:
        """The stage configuration of the active revision."""
        name = f"{self.name}-{self.status()['revision']}"
        return str(kubectl_json("get", "configmap", name, "-n", self.namespace)["data"]["stages.yaml"])

    def ask(self, prompt: str = "hello", *, seconds: float = 240) -> dict[str, Any]:
        """A chat request through the public Service; the answer as {text, wav_frames, wav_rate}."""
        found = self.get()["spec"]
        port = found["serving"]["port"]
        path = f"/api/v1/namespaces/{self.namespace}/services/http:{self.name}:{port}/proxy/v1/chat/completions"
        body = {"model": found["model"]["name"], "messages": [{"role": "user", "content": prompt}]}
        os.environ["KUBECONFIG"] = str(nodes.kubeconfig())
        answer = Access(context=None, namespace=self.namespace).request("POST", path, body=body, seconds=seconds)
        if answer.get("error"):
            msg = f"the engine answered with an error: {answer['error']}"
            raise RuntimeError(msg)
        out: dict[str, Any] = {}
        for choice in answer["choices"]:
            message = choice["message"]
            if sound := message.get("audio"):
                with wave.open(io.BytesIO(base64.b64decode(sound["data"]))) as wav:
                    out |= {"wav_frames": wav.getnframes(), "wav_rate": wav.getframerate()}
            if message.get("content"):  # 0.16 answers with a choice for each, 0.30 with both in one
                out["text"] = message["content"]
        return out

    def restarts(self) -> int:
        """How many of its servers the operator has ended."""
        mine = f"--field-selector=involvedObject.name={self.name},reason=ServerRestarted"
        return len(kubectl_json("get", "events", "-n", self.namespace, mine)["items"])

    def diagnostics(self) -> str:
        """State and logs, for the message of a test that fails."""
        return diagnostics.collect(self.namespace, self.name)


def manifest(namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An OmniDeployment."""
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "omni.vllm.ai/v1alpha1", "kind": "OmniDeployment", "metadata": meta, "spec": spec}


def namespace(name: str, *, labels: dict[str, str] | None = None) -> str:
    """Makes a namespace; waits for the end of one of that name that is on its way out."""
    phase = ("get", "namespace", name, "--ignore-not-found", "-o", "jsonpath={.status.phase}")
    eventually(f"the end of the {name} before", lambda: nodes.kubectl(*phase) != "Terminating", seconds=180)
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}})
    eventually(
        f"service account of {name}", lambda: nodes.kubectl("get", "sa", "default", "-n", name), seconds=30, every=0.2
    )
    return name


def node_memory() -> dict[str, str]:
    """The files below the folder for shared memory, by worker; without workers that have none."""
    found = {}
    for worker in nodes.workers():
        text = nodes.node_exec(worker, ["sh", "-c", "find /dev/shm/omni-operator 2>/dev/null || true"])
        if text.strip():
            found[worker] = text.strip()
    return found


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """A program of this repository's environment, against the cluster."""
    env = {**os.environ, "KUBECONFIG": str(nodes.kubeconfig())}
    return subprocess.run(command, text=True, env=env, check=True, **options)
