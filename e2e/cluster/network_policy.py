"""Enforces NetworkPolicies: if the cluster only stored them, tests would pass with wrong ones.

kube-router does it with iptables and ipset. The usual choice for kind, kube-network-policies, needs
the kernel's NFT_QUEUE, which small kernels leave out.
"""

import string
from pathlib import Path

from e2e.cluster import health, shell, system_images
from e2e.cluster.nodes import kubectl

_SERVICES = "10.96.0.0/16"  # kind's default
_MANIFEST = Path(__file__).with_name("manifests") / "network-policy.yaml"


def install() -> None:
    """Run kube-router on every node and wait for it.

    Raises:
        shell.CommandError: it was refused, or did not become ready in 300 s.
    """
    image = system_images.kube_router_name()
    manifest = string.Template(_MANIFEST.read_text()).substitute(IMAGE=image, SERVICES=_SERVICES)
    with shell.step("NetworkPolicies: kube-router"):
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
        kubectl("-n", "kube-system", "rollout", "status", "daemonset/kube-router", "--timeout=300s")
        health.wait_for_pods("kube-system")
