"""The pod network, from outside of the nodes: kind's own (kindnet) is an image of a registry.

Per node a CNI configuration of the plugins kind ships anyway (ptp, host-local, portmap), a route to
every other node's pods, and masquerading for what leaves the cluster. Routes and rules live in the
nodes' network namespaces: they are gone after a node restarts, and `apply` puts them back.
"""

import json
from collections.abc import Mapping

from e2e.cluster import provider

POD_SUBNET = "10.244.0.0/16"  # kind's default
_PATH = "/etc/cni/net.d/10-omni-e2e.conflist"
_PLUGIN_MTU = 1500


def apply(addresses: Mapping[str, str], pod_ranges: Mapping[str, str]) -> None:
    """Make pods on all nodes reach each other.

    Args:
        addresses: the IP of each node on the engine's network, by node name.
        pod_ranges: each node's pod range (`spec.podCIDR`), by node name.

    Raises:
        shell.CommandError: a node refused.
    """
    for node, pods in pod_ranges.items():
        routes = [f"ip route replace {pod_ranges[peer]} via {addresses[peer]}" for peer in pod_ranges if peer != node]
        rule = f"POSTROUTING -s {pods} ! -d {POD_SUBNET} -j MASQUERADE"
        script = [
            "set -e",
            *routes,
            f"iptables -w -t nat -C {rule} 2>/dev/null || iptables -w -t nat -A {rule}",
            # renamed into place: the runtime reads a file as soon as it is in the folder
            f"cat > /tmp/conflist; cmp -s /tmp/conflist {_PATH} || mv /tmp/conflist {_PATH}",
        ]
        provider.run("exec", "-i", node, "bash", "-c", "\n".join(script), stdin=_conflist(pods))


def _conflist(pods: str) -> str:
    ipam = {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",  # a tmpfs: addresses of pods that died with the node are free again
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": pods}]],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": ipam, "mtu": _PLUGIN_MTU},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "1.0.0", "name": "omni-e2e", "plugins": plugins}, indent=1)
