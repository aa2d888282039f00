"""Command lines and environment of the engine's containers, for every backend and release."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from omni_operator.api import ports
from omni_operator.api.spec import Backend, Protocol
from omni_operator.children import names
from omni_operator.children.names import (
    CONFIG_DIR,
    IMAGE_CHECK_FILE,
    LAUNCHER_FILE,
    STAGES_FILE,
    SUPERVISOR_FILE,
    Owner,
)
from omni_operator.children.revision import Revision
from omni_operator.connectors.base import ConnectorModule, ImageFacts
from omni_operator.connectors.registry import used
from omni_operator.engine.flags import Flags, fill
from omni_operator.engine.releases import release_of
from omni_operator.planning.model import WorkerGroup
from omni_operator.topology.namespace import PodSecurity

_MARGIN_SECONDS = 60
_RAY_NODE, _HOST_INDEX = "ray start", "OMNI_HOST_INDEX"
_RAY_START = ["bash", "-c", 'eval "$KUBERAY_GEN_RAY_START_CMD"']


def cluster_name(owner: Owner, revision: Revision, replica: int) -> str:
    """The RayCluster that a replica's server joins."""
    return revision.plan.cluster_ref or names.ray_cluster(owner, revision.name, replica)


def ray_address(owner: Owner, revision: Revision, replica: int) -> str:
    """Address for --ray-address: host and GCS port of the head."""
    host = names.head_address(owner, cluster_name(owner, revision, replica))
    return f"{host}:{revision.spec.ray.port}"


def injected(owner: Owner, revision: Revision, replica: int) -> list[list[str]]:
    """What the operator adds to the engine's command lines, for status.

    With it the stages run where they are planned. --worker-backend and --ray-address are given only
    to releases that act on them (0.14, 0.16).
    """
    plan = revision.plan
    if plan.backend is Backend.RAY:
        return [_ray_flags(owner, revision, replica)]
    if plan.backend is Backend.LOCAL:
        return []
    others = [stage for stage in plan.stages if stage.id != 0]
    return [_head_flags(revision), *(_stage_flags(revision, stage.id) for stage in others)]


def _ray_flags(owner: Owner, revision: Revision, replica: int) -> list[str]:
    return fill(_flags(revision).ray, address=ray_address(owner, revision, replica))


def _head_flags(revision: Revision) -> list[str]:
    """The head's flags; stage 0 runs in its process.

    The head binds the address that it is given and passes it on, so it is the address of its pod.
    """
    return fill(_flags(revision).head, address="$(POD_IP)", port=ports.HEAD_REGISTRATION)


def _stage_flags(revision: Revision, stage: int) -> list[str]:
    """`{head}` is the head's pod address, which the supervisor looks up."""
    return fill(_flags(revision).headless, stage=stage, address="{head}", port=ports.HEAD_REGISTRATION)


def engine_command(owner: Owner, revision: Revision, replica: int) -> list[str]:
    """The server (entrypoints/cli/serve.py of each release)."""
    spec, plan, flags = revision.spec, revision.plan, _flags(revision)
    out = [*flags.program, spec.model.name, *flags.omni, *fill(flags.listen, port=spec.serving.port)]
    if spec.model.served_name:
        out += fill(flags.served_name, name=spec.model.served_name)
    out += _configuration(revision)
    if plan.backend is Backend.RAY:
        out += _ray_flags(owner, revision, replica)
    elif plan.backend is Backend.HEADLESS:
        out += _head_flags(revision)
    return [*out, *_timeouts(revision), *spec.engine.extra_args]


def stage_command(revision: Revision, stage: int) -> list[str]:
    """The command of a headless stage, with the model, configuration and build of the head.

    They must be equal, because the head plans for every stage.
    """
    flags = _flags(revision)
    out = [*flags.program, revision.spec.model.name, *flags.omni, *_configuration(revision)]
    return [*out, *_stage_flags(revision, stage), *_timeouts(revision), *revision.spec.engine.extra_args]


def _flags(revision: Revision) -> Flags:
    return release_of(revision.plan.series).flags


def _configuration(revision: Revision) -> list[str]:
    return fill(_flags(revision).config, path=f"{CONFIG_DIR}/{STAGES_FILE}")


def startup_seconds(revision: Revision) -> int:
    """Seconds of the startup probe: the launcher's wait, the engine's start, and a margin."""
    probes = revision.spec.serving.probes
    waits = probes.ray_wait_seconds if revision.plan.backend is Backend.RAY else 0
    return waits + probes.init_timeout_seconds + _MARGIN_SECONDS


def _timeouts(revision: Revision) -> list[str]:
    """Flags with the time-outs for the start of one stage and of all stages.

    A release that serves without the stages that were not ready in time must not reach its own
    time-out: the startup probe ends it before (docs/adr/0007).
    """
    each = revision.spec.serving.probes.init_timeout_seconds
    # Twice, since a kubelet that restarts counts the probe's failures anew.
    every = each if release_of(revision.plan.series).exits_on_init_timeout else 2 * startup_seconds(revision)
    return fill(_flags(revision).timeouts, all_stages=every, one_stage=each)


def serving_command(owner: Owner, revision: Revision, replica: int) -> list[str]:
    """The server's container."""
    plan = revision.plan
    server = engine_command(owner, revision, replica)
    if plan.backend is Backend.RAY:
        server = _joining(owner, revision, replica, server)
    elif plan.backend is Backend.HEADLESS:
        beside = [stage.id for stage in plan.stages if stage.pod == "serving" and stage.id != 0]
        server = _supervised({_stage_name(0): server, **_stages(revision, beside)}, "--head=$(POD_IP)", "--announce")
    return _in_checked_image(revision, server)


def _joining(owner: Owner, revision: Revision, replica: int, server: Sequence[str]) -> list[str]:
    plan, spec = revision.plan, revision.spec
    host = names.head_address(owner, cluster_name(owner, revision, replica))
    return [  # the launcher joins Ray, then runs the engine
        "python3",
        f"{CONFIG_DIR}/{LAUNCHER_FILE}",
        f"--ray-address={ray_address(owner, revision, replica)}",
        f"--dashboard=http://{host}:{ports.RAY_DASHBOARD}",
        f"--accelerators={plan.accelerators}",
        f"--wait-seconds={spec.serving.probes.ray_wait_seconds}",
        f"--object-store-bytes={plan.serving.sizes.object_store_bytes}",
        *([] if plan.cluster_ref else [f"--expected-ray={spec.ray.version or f'>={plan.ray_version}'}"]),
        "--",
        *server,
    ]


def worker_command(owner: Owner, revision: Revision, replica: int, group: WorkerGroup) -> list[str]:
    """A worker's container on backend Headless: KubeRay's `ray start` and the stages beside it."""
    head = f"{names.head_service(owner, revision.name, replica)}.{owner.namespace}.svc"
    stages = [stage.id for stage in revision.plan.stages if stage.pod == group.name]
    first = [f"--first-host=$({_HOST_INDEX})"] if group.spans else []
    supervised = _supervised({_RAY_NODE: _RAY_START, **_stages(revision, stages)}, f"--head={head}", *first)
    return _in_checked_image(revision, supervised)


def _in_checked_image(revision: Revision, command: Sequence[str]) -> list[str]:
    """A command that runs only where the libraries are those by which the plan was made."""
    if not revision.checks_image:  # an immutable ConfigMap never gets it
        return list(command)
    engine = revision.spec.engine
    assumed = release_of(revision.plan.series).mooncake(engine.mooncake_version)
    image = ImageFacts(mooncake=assumed, nixl=engine.nixl)
    options = dict.fromkeys(option for module in _connectors(revision) for option in module.image_check(image))
    script = f"{CONFIG_DIR}/{IMAGE_CHECK_FILE}"
    return ["python3", script, f"--vllm-omni={revision.spec.engine.version}", *options, "--", *command]


def _connectors(revision: Revision) -> dict[ConnectorModule, frozenset[Protocol]]:
    return used((edge.connector, edge.protocol) for edge in revision.plan.edges)


def spanning_environment(owner: Owner, revision: Revision, replica: int) -> list[dict[str, Any]]:
    """Variables of pods that share a stage: the pod's rank, and the address of the Ray cluster.

    The stage's engine takes the cluster from the environment only.
    """
    index = {"fieldRef": {"fieldPath": "metadata.labels['ray.io/replica-host-index']"}}  # KubeRay 1.6, numOfHosts
    return [
        {"name": _HOST_INDEX, "valueFrom": index},
        {"name": "RAY_ADDRESS", "value": ray_address(owner, revision, replica)},
    ]


def ray_head_command() -> list[str]:
    """The Ray head's container on backend Headless.

    The annotation by which KubeRay leaves the workers' commands alone does the same to the head's.
    """
    return _RAY_START


def _stage_name(stage: int) -> str:
    return f"stage {stage}"


def _stages(revision: Revision, stages: Sequence[int]) -> dict[str, list[str]]:
    return {_stage_name(stage): stage_command(revision, stage) for stage in stages}


def _supervised(commands: Mapping[str, Sequence[str]], *options: str) -> list[str]:
    """The supervisor with commands by the names that its words give them."""
    script = f"{CONFIG_DIR}/{SUPERVISOR_FILE}"
    return ["python3", script, *options, f"--port={ports.HEAD_GENERATION}", f"--run={json.dumps(dict(commands))}"]


def environment(owner: Owner, revision: Revision, *, replica: int, server: bool) -> list[dict[str, Any]]:
    """Environment of an engine container.

    Ray passes only PYTHONPATH from the server to its actors (0.16), so everything is set on every
    pod. KubeRay adds the token to its own pods; the server gets it from the same Secret.
    """
    plan, spec = revision.plan, revision.spec
    out: list[dict[str, Any]] = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "VLLM_HOST_IP", "value": "$(POD_IP)"},
    ]
    if plan.has_ray:
        out += [
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
            # A cold image on a busy node takes longer than Ray's 30 s to bring its raylet up.
            {"name": "RAY_raylet_start_wait_time_s", "value": "300"},
            # A dashboard whose module is not up in Ray's 30 s ends, nobody starts it again, and
            # servers wait for it (verified with Ray 2.53).
            {"name": "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT", "value": "300"},
        ]
    for module, protocols in _connectors(revision).items():
        needed = module.environment(protocols, rdma_device=spec.transport.rdma_device)
        out += [{"name": name, "value": value} for name, value in needed.items()]
    if plan.pod_security is PodSecurity.RESTRICTED:
        out.append({"name": "HOME", "value": "/tmp"})  # noqa: S108  the user of a restricted pod has no home
    if spec.model.token_secret:
        secret = spec.model.token_secret
        out.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}})
    if server and plan.token_auth and plan.backend is Backend.RAY:
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
    """Name of the Secret that KubeRay makes for a RayCluster.

    It is the last 50 characters of the cluster's name (utils.CheckName, KubeRay 1.6.2).
    """
    if len(cluster) <= 50:
        return cluster
    tail = cluster[-50:]
    return "r" + tail[1:] if not tail[0].isalpha() else tail
