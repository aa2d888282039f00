"""Command lines and environment of the engine's containers."""

from __future__ import annotations

from typing import Any

from omni_operator.children import names
from omni_operator.children.names import CONFIG_DIR, LAUNCHER_FILE, STAGES_FILE, Owner
from omni_operator.children.revision import Revision
from omni_operator.engine.release import release_for
from omni_operator.planning.model import PodSecurity

DASHBOARD_PORT = 8265


def cluster_name(owner: Owner, revision: Revision, replica: int) -> str:
    """The RayCluster that a replica's server joins."""
    return revision.plan.cluster_ref or names.ray_cluster(owner, revision.name, replica)


def ray_address(owner: Owner, revision: Revision, replica: int) -> str:
    """Address for --ray-address: host and GCS port of the head."""
    host = names.head_address(owner, cluster_name(owner, revision, replica))
    return f"{host}:{revision.spec.ray.port}"


def injected(address: str) -> list[str]:
    """What the operator adds to `vllm serve` so that stages run on Ray."""
    return ["--worker-backend", "ray", "--ray-address", address]


def engine_command(owner: Owner, revision: Revision, replica: int) -> list[str]:
    """The `vllm serve` of a release with Ray (entrypoints/cli/serve.py of 0.14 and 0.16)."""
    spec, release = revision.spec, release_for(revision.plan.version)
    out = ["vllm", "serve", spec.model.name, "--omni", "--host", "0.0.0.0", "--port", str(spec.serving.port)]  # noqa: S104  a pod's port
    if spec.model.served_name:
        out += ["--served-model-name", spec.model.served_name]
    out += [release.config_flag, f"{CONFIG_DIR}/{STAGES_FILE}"]
    out += injected(ray_address(owner, revision, replica))
    if release.init_timeout_flag:
        timeout = str(spec.serving.probes.init_timeout_seconds)
        out += ["--init-timeout", timeout, "--stage-init-timeout", timeout]
    return [*out, *spec.engine.extra_args]


def serving_command(owner: Owner, revision: Revision, replica: int) -> list[str]:
    """The server's container: the launcher joins Ray, then becomes the engine."""
    plan, spec = revision.plan, revision.spec
    host = names.head_address(owner, cluster_name(owner, revision, replica))
    return [
        "python3",
        f"{CONFIG_DIR}/{LAUNCHER_FILE}",
        f"--ray-address={ray_address(owner, revision, replica)}",
        f"--dashboard=http://{host}:{DASHBOARD_PORT}",
        f"--accelerators={plan.accelerators}",
        f"--wait-seconds={spec.serving.probes.ray_wait_seconds}",
        f"--object-store-bytes={plan.serving_sizes.object_store_bytes}",
        "--",
        *engine_command(owner, revision, replica),
    ]


def environment(owner: Owner, revision: Revision, *, replica: int, server: bool) -> list[dict[str, Any]]:
    """Environment of an engine container.

    Ray passes only PYTHONPATH from the server to its actors (0.16), so everything is set on every pod. KubeRay adds the token
    to its own pods; the server gets it from the same Secret.
    """
    plan, spec = revision.plan, revision.spec
    out: list[dict[str, Any]] = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "VLLM_HOST_IP", "value": "$(POD_IP)"},
        {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
        # A cold image on a busy node takes longer than Ray's 30 s to bring its raylet up.
        {"name": "RAY_raylet_start_wait_time_s", "value": "300"},
    ]
    if plan.pod_security is PodSecurity.RESTRICTED:
        out.append({"name": "HOME", "value": "/tmp"})  # noqa: S108  the user of a restricted pod has no home
    if spec.model.token_secret:
        secret = spec.model.token_secret
        out.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}})
    if server and plan.token_auth:
        secret_name = token_secret(cluster_name(owner, revision, replica))
        out += [
            {"name": "RAY_AUTH_MODE", "value": "token"},
            {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret_name, "key": "auth_token"}}},
        ]
    mine: dict[str, dict[str, Any]] = {}
    for variable in spec.engine.env:
        given = {"value": variable.value or ""} if variable.value_from is None else {"valueFrom": variable.value_from}
        mine[variable.name] = {"name": variable.name, **given}
    # In place, since $(NAME) sees only variables that come before it.
    out = [mine.pop(variable["name"], variable) for variable in out]
    return [*out, *mine.values()]


def token_secret(cluster: str) -> str:
    """Name of the Secret that KubeRay makes for a RayCluster: its last 50 characters (utils.CheckName, 1.6.2)."""
    if len(cluster) <= 50:
        return cluster
    tail = cluster[-50:]
    return "r" + tail[1:] if not tail[0].isalpha() else tail
