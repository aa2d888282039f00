"""What all pods of a pipeline share: placement, security, volumes, resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omni_operator.api.serving_spec import ContainerResources
from omni_operator.api.spec import AcceleratorType, Backend, EngineSpec, Strategy
from omni_operator.children import names
from omni_operator.children.names import CONFIG_DIR, NODE_SHM_PARENT, Component, Owner
from omni_operator.children.revision import Revision
from omni_operator.connectors.network import RDMA_CAPABILITY
from omni_operator.planning.model import Domains
from omni_operator.topology.namespace import PodSecurity
from omni_operator.topology.quantity import binary, parse

_RESTRICTED_UID = 1000
HOSTNAME = "kubernetes.io/hostname"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def engine_image(engine: EngineSpec) -> str:
    """The image of every engine container."""
    return engine.image or f"docker.io/vllm/vllm-omni:v{engine.version}"


def stage_resources(revision: Revision, stages: Sequence[str]) -> list[ContainerResources]:
    """What the user asks for stages that are in one pod; a stage without a wish is left out."""
    return [o.resources for o in revision.spec.stages if o.name in stages and o.resources is not None]


def together(first: ContainerResources | None, *others: ContainerResources) -> ContainerResources | None:
    """The sum of what a server and the stages beside it ask for."""
    return folded([*([first] if first else []), *others], together=True)


def folded(
    wanted: Sequence[ContainerResources], *, together: bool, stages: int | None = None
) -> ContainerResources | None:
    """What several stages ask of one pod.

    Together in it: the sum. One of them at a time (Ray may place any stage in any pod): each pod
    needs the largest. A limit holds only when every stage has one, since it would bind those that
    have none; and it is never below the requests.

    Args:
        wanted: What the stages ask for that ask at all.
        together: Whether they are in the pod at one time.
        stages: All stages of the pod, also those that ask for nothing.
    """
    if not wanted:
        return None

    def fold(maps: Sequence[Mapping[str, str | int]]) -> dict[str, str | int]:
        out: dict[str, str | int] = {}
        for values in maps:
            for key, value in values.items():
                if key not in out:
                    out[key] = value
                elif together:
                    out[key] = _plain(parse(out[key]) + parse(value))
                elif parse(value) > parse(out[key]):
                    out[key] = value
        return out

    requests = fold([r.requests for r in wanted])
    limits = fold([r.limits for r in wanted])
    everywhere = len(wanted) if stages is None else stages
    for key in list(limits):
        if "/" not in key and sum(key in r.limits for r in wanted) < everywhere:
            del limits[key]
        elif key in requests and parse(requests[key]) > parse(limits[key]):
            limits[key] = requests[key]
    return ContainerResources(requests=requests, limits=limits)


def _plain(number: Any) -> str:
    integer = number.to_integral_value()
    return str(integer) if integer == number else f"{(number * 1000).to_integral_value()}m"


def resources(
    user: ContainerResources | None,
    *,
    cpu: str,
    memory_bytes: int,
    devices: Mapping[str, int],
    extra_memory_bytes: int = 0,
    disk_bytes: int = 0,
) -> dict[str, Any]:
    """Requests and limits of a container.

    Derived memory (shared memory, pools) is added to what the user asks for, since it counts
    against the pod. Devices are limits, as the API demands of extended resources.
    """
    requests: dict[str, str] = {"cpu": cpu, "memory": binary(memory_bytes)}
    if disk_bytes:
        requests["ephemeral-storage"] = binary(disk_bytes)
    limits: dict[str, str] = {}
    if user is not None:
        for key, value in user.requests.items():
            requests[key] = str(value)
        for key, value in user.limits.items():
            limits[key] = str(value)
        if extra_memory_bytes:
            for given, asked in ((requests, user.requests), (limits, user.limits)):
                if "memory" in asked:
                    given["memory"] = binary(int(parse(asked["memory"])) + extra_memory_bytes)
        for key, limit in limits.items():
            if key in requests and key not in user.requests and parse(limit) < parse(requests[key]):
                requests[key] = limit  # our default must not make the user's limit an invalid pod
    for key in {key for key in (*requests, *limits) if "/" in key}:  # the API wants both, and equal
        limits[key] = requests[key] = max(requests.get(key, "0"), limits.get(key, "0"), key=parse)
    for device, count in devices.items():
        if count:
            requests[device] = limits[device] = str(count)
    out: dict[str, Any] = {"requests": requests}
    if limits:
        out["limits"] = limits
    return out


def container_security(revision: Revision, *, rdma: bool) -> dict[str, Any]:
    """Security context of an engine container."""
    out: dict[str, Any] = {"allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}}
    capabilities: dict[str, Any] = {}
    if revision.plan.pod_security is PodSecurity.RESTRICTED:
        out |= {"runAsNonRoot": True, "runAsUser": _RESTRICTED_UID}
        capabilities["drop"] = ["ALL"]
    if rdma:
        capabilities["add"] = [RDMA_CAPABILITY]
    if capabilities:
        out["capabilities"] = capabilities
    return out


def container(
    owner: Owner, revision: Revision, *, name: str, env: list[dict[str, Any]], rdma: bool, mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    """The part that all engine containers share."""
    return {
        "name": name,
        "image": engine_image(revision.spec.engine),
        "imagePullPolicy": revision.spec.engine.image_pull_policy.value,
        # Without words of its own a container that ends with an error has those of its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": env,
        "securityContext": container_security(revision, rdma=rdma),
        "volumeMounts": mounts,
    }


def volumes(
    owner: Owner, revision: Revision, *, replica: int, shm_bytes: int, config: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes of a pod and the mounts of its engine container."""
    if revision.plan.node_shared_memory:
        folder = f"{NODE_SHM_PARENT}/{names.node_folder(owner, revision.name, replica)}"
        shm: dict[str, Any] = {"name": "shm", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}
    else:
        shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": binary(shm_bytes)}}
    found, mounts = [shm], [{"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108
    if config:
        found.append({"name": "config", "configMap": {"name": names.base(owner, revision.name)}})
        mounts.append({"name": "config", "mountPath": CONFIG_DIR, "readOnly": True})  # type: ignore[dict-item]
    weights = revision.spec.model.weights
    if weights:
        mount: dict[str, Any] = {"name": "weights", "mountPath": weights.mount_path, "readOnly": True}
        if weights.claim:
            found.append(
                {"name": "weights", "persistentVolumeClaim": {"claimName": weights.claim.claim_name, "readOnly": True}}
            )
            if weights.claim.sub_path:
                mount["subPath"] = weights.claim.sub_path
        elif weights.host_path:
            found.append({"name": "weights", "hostPath": {"path": weights.host_path.path, "type": "Directory"}})
        mounts.append(mount)
    return found, mounts


def pod_spec(
    owner: Owner,
    revision: Revision,
    *,
    component: Component,
    replica: int | None,
    containers: list[dict[str, Any]],
    pod_volumes: list[dict[str, Any]],
    grace_seconds: int,
    devices: bool = False,
    stages: Sequence[str] = (),
) -> dict[str, Any]:
    """A pod's spec: placement from the user, constraints from the plan.

    `stages` are those whose own placement is used.
    """
    placement = revision.spec.placement
    own = [override for override in revision.spec.stages if override.name in stages]
    selector = dict(placement.node_selector)
    for override in own:
        selector |= override.node_selector or {}
    tolerations = [*placement.tolerations, *(t for override in own for t in override.tolerations or ())]
    out: dict[str, Any] = {
        "containers": containers,
        "automountServiceAccountToken": False,
        # Service links would set VLLM_PORT and the like from a Service's name, which vLLM reads as
        # its own settings.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds,
    }
    if pod_volumes:
        out["volumes"] = pod_volumes
    if revision.spec.engine.image_pull_secrets:
        out["imagePullSecrets"] = [{"name": name} for name in revision.spec.engine.image_pull_secrets]
    if selector:
        out["nodeSelector"] = selector
    if tolerations:
        out["tolerations"] = [t.model_dump(by_alias=True, mode="json", exclude_none=True) for t in tolerations]
    if affinity := _affinity(owner, revision, component=component, replica=replica):
        out["affinity"] = affinity
    if (
        component is Component.WORKER
        and revision.plan.strategy is Strategy.SPREAD
        and revision.plan.backend is Backend.RAY
    ):
        out["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": HOSTNAME,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {
                    "matchLabels": names.selector(owner, component, revision=revision.name, replica=replica)
                },
            }
        ]
    if placement.priority_class_name:
        out["priorityClassName"] = placement.priority_class_name
    if placement.scheduler_name:
        out["schedulerName"] = placement.scheduler_name
    if devices and revision.spec.accelerator.runtime_class_name:
        out["runtimeClassName"] = revision.spec.accelerator.runtime_class_name
    return out


def _affinity(owner: Owner, revision: Revision, *, component: Component, replica: int | None) -> dict[str, Any]:
    """The user's affinity with what the plan relies on added to it."""
    user: dict[str, Any] = dict(revision.spec.placement.affinity or {})
    required: list[dict[str, Any]] = []
    plan = revision.plan
    one_node = plan.backend is Backend.RAY and plan.strategy is Strategy.ONE_NODE and plan.cluster_ref is None
    if one_node and component is Component.SERVING:
        # The worker takes the accelerators; the server follows it.
        worker = names.selector(owner, Component.WORKER, revision=revision.name, replica=replica)
        required.append({"labelSelector": {"matchLabels": worker}, "topologyKey": HOSTNAME})
    if plan.topology_key and replica is not None:
        # All follow the pods that need most: a head that was placed first would choose the domain
        # for them.
        leader = Component.WORKER if plan.groups else Component.SERVING
        mine = names.selector(owner, leader, revision=revision.name, replica=replica)
        required.append({"labelSelector": {"matchLabels": mine}, "topologyKey": plan.topology_key})
        holds_accelerators = component is Component.WORKER or (component is Component.SERVING and plan.serving.stages)
        if plan.domains is not None and holds_accelerators:
            user["nodeAffinity"] = _in_domains(
                user.get("nodeAffinity") or {}, key=plan.topology_key, domains=plan.domains
            )
    if required:
        pod_affinity: dict[str, Any] = dict(user.get("podAffinity") or {})
        pod_affinity[_REQUIRED] = [*(pod_affinity.get(_REQUIRED) or []), *required]
        user["podAffinity"] = pod_affinity
    return user


def _in_domains(user: Mapping[str, Any], *, key: str, domains: Domains) -> dict[str, Any]:
    """Node affinity that keeps workers in domains that are large enough for all of them.

    The user's terms are alternatives, so the requirement is added to each.
    """
    able = {"key": key, "operator": "In", "values": list(domains.able)}
    terms = (user.get(_REQUIRED) or {}).get("nodeSelectorTerms") or [{}]
    out = dict(user)
    out[_REQUIRED] = {
        "nodeSelectorTerms": [
            {**term, "matchExpressions": [*(term.get("matchExpressions") or []), able]} for term in terms
        ]
    }
    if domains.free and domains.free != domains.able:
        free = {"matchExpressions": [{"key": key, "operator": "In", "values": list(domains.free)}]}
        out[_PREFERRED] = [*(user.get(_PREFERRED) or []), {"weight": 100, "preference": free}]
    return out


def pod_metadata(owner: Owner, revision: Revision, component: Component, *, replica: int | None) -> dict[str, Any]:
    """Labels and annotations of a pod; the user's labels never replace the operator's."""
    placement = revision.spec.placement
    out: dict[str, Any] = {
        "labels": {**placement.labels, **names.labels(owner, component, revision=revision.name, replica=replica)}
    }
    if placement.annotations:
        out["annotations"] = dict(placement.annotations)
    return out


def accelerator_devices(revision: Revision, count: int, *, rdma: bool) -> dict[str, int]:
    """Devices that a pod with `count` accelerators requests; no accelerators on CPU.

    A pod that is an end of an RDMA edge also requests an RDMA device.
    """
    plan = revision.plan
    out = {plan.rdma_resource: 1} if plan.rdma_resource and rdma else {}
    if plan.accelerator is not AcceleratorType.CPU and plan.accelerator_resource and count:
        out[plan.accelerator_resource] = count
    return out
