"""Whether a cluster really works, also after its nodes were killed and started again.

What the API server says about a restarted node is what its kubelet said before it went: Ready, all
pods running. So a statement counts only if it is younger than the node's container, and Services
are tried, not believed.
"""

import datetime
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from e2e.cluster import shell
from e2e.cluster.nodes import everyone, kubectl, node_exec, started


def wait_for_nodes(seconds: float = 300) -> None:
    """Wait until every node is Ready, kube-system runs, and Services are reachable from every node.

    Raises:
        shell.CommandError: still not so after `seconds`; the message says what is missing.
    """
    since = started()
    _poll(seconds, lambda: [*_nodes(since), *_pods("kube-system", since)] or list(_unreachable()))


def wait_for_pods(namespace: str, seconds: float = 300) -> None:
    """Wait until the namespace has a pod and all of them are Ready.

    Raises:
        shell.CommandError: still not so after `seconds`; the message says what is missing.
    """
    since = started()
    _poll(seconds, lambda: list(_pods(namespace, since)))


def _poll(seconds: float, check: Callable[[], list[str]]) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            missing = check()
        except shell.CommandError as error:  # an API server that starts may still refuse
            missing = [str(error)]
        if not missing:
            return
        if time.monotonic() > end:
            raise shell.CommandError(["waiting"], 1, "\n".join(missing))
        time.sleep(1)


def _nodes(since: Mapping[str, datetime.datetime]) -> Iterator[str]:
    leases = _get("leases", "kube-node-lease")
    listed = {item["metadata"]["name"]: item for item in _get("nodes")}
    renewed = {lease["metadata"]["name"]: _time(lease["spec"].get("renewTime")) for lease in leases}
    for node, start in since.items():
        if node not in listed or not _is_true(listed[node], "Ready"):
            yield f"node {node} is not Ready"
        elif renewed.get(node, _NEVER) < start:
            yield f"node {node} has said nothing since it was started"


def _pods(namespace: str, since: Mapping[str, datetime.datetime]) -> Iterator[str]:
    pods = _get("pods", namespace)
    for pod in pods:
        if not _runs(pod, since):
            yield f"pod {namespace}/{pod['metadata']['name']} does not run"
    if not pods:
        yield f"no pod in {namespace}"


def _runs(pod: dict[str, Any], since: Mapping[str, datetime.datetime]) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return True  # on its way out: its successor counts
    start = since.get(pod["spec"].get("nodeName", ""))
    statuses = pod["status"].get("containerStatuses", [])
    times = [_time(status.get("state", {}).get("running", {}).get("startedAt")) for status in statuses]
    return start is not None and bool(times) and min(times) >= start and _is_true(pod, "Ready")


def _unreachable() -> Iterator[str]:
    address = kubectl("-n", "default", "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
    for node in everyone():
        try:
            node_exec(node, ["curl", "-ks", "--max-time", "3", "-o", "/dev/null", f"https://{address}/livez"])
        except shell.CommandError:
            yield f"node {node} does not reach the API server's Service {address}"


def _get(kind: str, namespace: str = "") -> list[dict[str, Any]]:
    where = ["-n", namespace] if namespace else []
    found: list[dict[str, Any]] = json.loads(kubectl("get", kind, *where, "-o", "json", timeout=30))["items"]
    return found


def _is_true(item: dict[str, Any], condition: str) -> bool:
    return any(row["type"] == condition and row["status"] == "True" for row in item["status"].get("conditions", []))


_NEVER = datetime.datetime.fromtimestamp(0, datetime.UTC)


def _time(text: str | None) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text) if text else _NEVER
