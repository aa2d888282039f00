"""Names of the cluster and its nodes, and commands inside them."""

import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import binaries, cache, provider, shell

_CLUSTER_LABEL = "io.x-k8s.kind.cluster"


def name() -> str:
    """Return the cluster's name: OMNI_E2E_CLUSTER, else omni-e2e."""
    return os.environ.get("OMNI_E2E_CLUSTER") or "omni-e2e"


def kubeconfig() -> Path:
    """Return the path of the cluster's kubeconfig; it exists once the cluster was made."""
    return cache.folder("clusters", name()) / "kubeconfig"


def control_plane() -> str:
    """Return the name of the control plane's node."""
    return f"{name()}-control-plane"


def workers() -> list[str]:
    """Return the names of the worker nodes."""
    return [f"{name()}-worker", f"{name()}-worker2"]


def everyone() -> list[str]:
    """Return the names of all nodes."""
    return [control_plane(), *workers()]


def kubectl(*args: str, stdin: str | None = None, timeout: float | None = None) -> str:
    """Run kubectl against the cluster and return its output.

    Raises:
        shell.CommandError: it failed.
    """
    argv = [str(binaries.ensure("kubectl")), f"--kubeconfig={kubeconfig()}", *args]
    return shell.run(argv, stdin=stdin, timeout=timeout)


def node_exec(node: str, argv: Sequence[str], *, stdin: str | None = None) -> str:
    """Run `argv` inside the node's container and return its output; short names (worker2) will do.

    Raises:
        shell.CommandError: it failed.
    """
    interactive = ["-i"] if stdin is not None else []
    return provider.run("exec", *interactive, full_name(node), *argv, stdin=stdin)


def full_name(node: str) -> str:
    """Return the full name of `node`, given in full or without the cluster's name (worker2).

    Raises:
        LookupError: the cluster has no such node.
    """
    for known in everyone():
        if node in {known, known.removeprefix(f"{name()}-")}:
            return known
    raise LookupError(f"no node {node!r}; there are: {', '.join(everyone())}")


def states() -> dict[str, str]:
    """Return the state (such as running or exited) of the nodes' containers, by name."""
    label = f"label={_CLUSTER_LABEL}={name()}"
    found = provider.run("ps", "-a", "--filter", label, "--format", "{{.Names}}").split()
    if not found:
        return {}
    rows = provider.run("inspect", "--format", "{{.Name}} {{.State.Status}}", *found).splitlines()
    return {row.split()[0].lstrip("/"): row.split()[1] for row in rows}


def answers(seconds: float = 10) -> bool:
    """Whether the API server says it is ready, within `seconds`."""
    if not kubeconfig().exists():
        return False
    argv = [str(binaries.ensure("kubectl")), f"--kubeconfig={kubeconfig()}", f"--request-timeout={seconds:g}s"]
    return shell.succeeds([*argv, "get", "--raw=/readyz"], timeout=seconds + 5)


def started() -> dict[str, datetime.datetime]:
    """Return the start of each node's container, in whole seconds as in Kubernetes, by name."""
    rows = json.loads(provider.run("inspect", *everyone()))
    times = {row["Name"].lstrip("/"): datetime.datetime.fromisoformat(row["State"]["StartedAt"]) for row in rows}
    return {node: times[node].replace(microsecond=0) for node in everyone()}


def addresses() -> dict[str, str]:
    """Return the IP of each node on the engine's network, by name."""
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    return {node: provider.run("inspect", "--format", form, node).split()[0] for node in everyone()}
