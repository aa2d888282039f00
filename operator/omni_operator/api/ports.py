"""The fixed ports inside a pipeline's pods, in one table.

Children bind them, plans avoid them, and the API's rules reserve them. Each pod has an address of
its own, so two uses of a port matter only inside one pod. Ports of connectors are computed from
FIRST_CONNECTOR by the release's own formula (planning/ports.py).
"""

from __future__ import annotations

from collections.abc import Sequence

SERVER = 8091  # default of serving.port
RAY_GCS = 6399  # default of ray.port; Ray's own default, 6379, is that of Redis
RAY_DASHBOARD = 8265
RAY_CLIENT = 10001
RAY_METRICS = 8080  # KubeRay starts ray with --metrics-export-port=8080
RAY_AGENT = 52365  # the dashboard's agent on every node, which KubeRay's probes ask
RAY_NODE = (8076, 8077, 8078)  # object manager, node manager, runtime environment agent, where a cluster fixes them
RAY_WORKERS = (10002, 19999)  # the first and the last that Ray gives to its workers
HEAD_GENERATION = 25999  # where the head's supervisor tells stages which start of the head it is
HEAD_REGISTRATION = 26000  # of the head that headless stages register with (-omp); the rest it takes are ephemeral
MOONCAKE_MASTER = 50051
MOONCAKE_METADATA = 8080
MOONCAKE_METRICS = 9003
FIRST_CONNECTOR = 50051  # upstream's default; the server's, Ray's and the head's ports lie below it
HIGHEST = 65535

# What serving.port must not be: a port of Ray or Mooncake in the serving pod. Stable: the API
# server keeps these rules.
RESERVED_FOR_SERVER = (*RAY_NODE, RAY_DASHBOARD, RAY_CLIENT, FIRST_CONNECTOR, FIRST_CONNECTOR + 1, RAY_AGENT)
# What ray.port must not be: another port of the Ray head.
RESERVED_FOR_GCS = (*RAY_NODE, RAY_METRICS, RAY_DASHBOARD, RAY_CLIENT, RAY_AGENT)


def in_list(ports: Sequence[int]) -> str:
    """A CEL expression: whether a port is one of these."""
    return f"self in {list(ports)}"


def in_words(ports: Sequence[int]) -> str:
    """Ports for people; three or more that follow each other are a range."""
    runs: list[list[int]] = []
    for port in ports:
        if runs and port == runs[-1][-1] + 1:
            runs[-1].append(port)
        else:
            runs.append([port])
    shown = [[f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run) for run in runs]
    return ", ".join(text for texts in shown for text in texts)
