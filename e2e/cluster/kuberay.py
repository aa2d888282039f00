"""KubeRay's own operator in the cluster, from its Go module."""

import json
import string
from pathlib import Path

from e2e.cluster import archive, binaries, cache, health, images, shell
from e2e.cluster.modules import KUBERAY
from e2e.cluster.nodes import control_plane, kubectl

NAMESPACE = "kuberay-system"
_DEPLOYMENT = "deployment/kuberay-operator"
_MANIFEST = Path(__file__).with_name("manifests") / "kuberay.yaml"


def image() -> str:
    """Return the name of the operator's image; its key is that of the Go module."""
    return f"localhost/omni-e2e/kuberay-operator:v{KUBERAY}-{binaries.key('kuberay')}"


def install() -> None:
    """Install the CustomResourceDefinitions and the operator, and wait; skipped if it runs already.

    Raises:
        shell.CommandError: the API server refused something, or the operator did not become
            available in 120 s.
    """
    crds = binaries.kuberay_crds()
    key = cache.key(image(), _MANIFEST.read_bytes(), *(path.read_bytes() for path in crds))
    if _installed() == key:
        health.wait_for_pods(NAMESPACE)
        return
    with shell.step("installing KubeRay"):
        program = binaries.ensure("ray-operator")
        images.make(archive.Image(names=(image(),), files={"manager": program}, entrypoint=("/manager",)))
        images.load(image(), [control_plane()])
        files = [word for path in crds for word in ("-f", str(path))]
        # a client-side apply would copy each definition into an annotation, which is too
        # small
        kubectl("apply", "--server-side", "--force-conflicts", *files)
        kubectl("wait", "--for=condition=Established", "--timeout=60s", *files)
        manifest = string.Template(_MANIFEST.read_text()).substitute(IMAGE=image(), KEY=key)
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
        kubectl("-n", NAMESPACE, "rollout", "status", _DEPLOYMENT, "--timeout=120s")


def _installed() -> str | None:
    try:
        found = json.loads(kubectl("-n", NAMESPACE, "get", _DEPLOYMENT, "--ignore-not-found", "-o", "json") or "{}")
    except (shell.CommandError, json.JSONDecodeError):
        return None
    key: str | None = found.get("metadata", {}).get("annotations", {}).get("omni-e2e/key")
    return key
