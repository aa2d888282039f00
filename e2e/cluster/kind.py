"""The cluster itself: created, reused, repaired and removed through kind.

What other code needs of a cluster is here: `up`, `down`, `kubeconfig`, `kubectl`, `workers`,
`node_exec`.
"""

import json
import time
from pathlib import Path

from e2e.cluster import (
    binaries,
    cache,
    cni,
    health,
    kuberay,
    network_policy,
    node_image,
    provider,
    shell,
    system_images,
)
from e2e.cluster.nodes import (
    addresses,
    answers,
    control_plane,
    everyone,
    kubeconfig,
    kubectl,
    name,
    node_exec,
    states,
    workers,
)

__all__ = ["control_plane", "down", "kubeconfig", "kubectl", "name", "node_exec", "up", "workers"]

# The nodes share one disk that is not theirs: a kubelet must neither delete images nor evict pods
# because it is nearly full.
_CONFIG = """kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  disableDefaultCNI: {own_cni}
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  failCgroupV1: false
  imageGCHighThresholdPercent: 100
  evictionHard: {{memory.available: 100Mi, nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}}
nodes:
- role: control-plane
- role: worker
- role: worker
"""
_PATIENCE = 120.0  # seconds; other work may leave an API server little of a small machine


def up() -> None:
    """Start the cluster with KubeRay: reuse it, start its stopped nodes, or create it again.

    Raises:
        shell.CommandError: it could not be made.
    """
    with cache.locked(f"cluster-{name()}"):
        if not _revive():
            _create()
        try:
            _settle()
        except shell.CommandError as error:
            shell.say(f"the cluster does not become ready and is made anew: {error}")
            _delete()
            _create()
            _settle()
        if not node_image.foreign() and _is_current():  # kindnet enforces policies itself
            network_policy.install()
        kuberay.install()


def down() -> None:
    """Remove the cluster, its volumes and its kubeconfig; nothing happens if there is none."""
    with cache.locked(f"cluster-{name()}"):
        _delete()


def _revive() -> bool:
    """Whether a complete cluster answers; starts stopped nodes, and removes a broken cluster."""
    found = states()
    if not found:
        return False
    stopped = [node for node, state in found.items() if state != "running"]
    if set(found) == set(everyone()):
        for node in stopped:
            with shell.step(f"starting the stopped node {node}"):
                provider.succeeds("start", node)
        if not kubeconfig().exists():
            argv = [str(binaries.ensure("kind")), "export", "kubeconfig", "--name", name(), "--kubeconfig"]
            shell.succeeds([*argv, str(kubeconfig())], env=provider.environment())
        if _wait_for_api(_PATIENCE):
            if not _is_current():
                shell.say("the cluster was made from another node image; `down` and `up` would bring the present one")
            return True
    shell.say(f"cluster {name()} is broken and is made anew; its nodes: {found}")
    _delete()
    return False


def _create() -> None:
    image = node_image.ensure()
    if provider.name() == "podman":
        Path("/lib/modules").mkdir(parents=True, exist_ok=True)  # kind mounts it, a sandbox's kernel has none
    config = _CONFIG.format(own_cni=str(not node_image.foreign()).lower())
    argv = ["create", "cluster", "--name", name(), "--image", image, "--kubeconfig", str(kubeconfig()), "--config", "-"]
    _delete()  # volumes of an attempt that ended half way
    with shell.step(f"creating cluster {name()}"):
        _kind(*argv, stdin=config)
    if not node_image.foreign():
        for node in workers():  # every node gets a copy of the image's /var: half a GB of it never runs on a worker
            node_exec(node, ["crictl", "rmi", *system_images.control_plane_names()])


def _is_current() -> bool:
    (container,) = json.loads(provider.run("inspect", control_plane()))
    return node_image.tag() in {container.get("ImageName"), container["Config"].get("Image")}


def _settle() -> None:
    if not node_image.foreign():
        listed = json.loads(kubectl("get", "nodes", "-o", "json", timeout=60))["items"]
        ranges = {item["metadata"]["name"]: item["spec"].get("podCIDR") for item in listed}
        if missing := set(everyone()) - {node for node, pods in ranges.items() if pods}:
            raise shell.CommandError(["kubectl", "get", "nodes"], 1, f"no pod range yet on: {missing}")
        cni.apply(addresses(), ranges)
    for node in workers():
        # A real node's is half its memory; a container's is 64 MiB, in which a large payload ends
        # its writer with SIGBUS.
        node_exec(node, ["mount", "-o", "remount,size=4g", "/dev/shm"])
    with shell.step("waiting for the nodes and DNS"):
        health.wait_for_nodes()


def _delete() -> None:
    if states():
        with shell.step(f"removing cluster {name()}"):
            _kind("delete", "cluster", "--name", name(), "--kubeconfig", str(kubeconfig()))
    kubeconfig().unlink(missing_ok=True)
    if provider.name() == "podman":
        for node in everyone():  # kind labels each node's /var with the node's name; it outlives a node removed by hand
            volumes = provider.run("volume", "ls", "--quiet", "--filter", f"label={node}").split()
            if volumes:
                provider.succeeds("volume", "rm", "--force", *volumes)


def _wait_for_api(seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answers():
            return True
        time.sleep(1)
    return False


def _kind(*args: str, stdin: str | None = None) -> str:
    return shell.run([str(binaries.ensure("kind")), *args], env=provider.environment(), stdin=stdin)
