"""Nodes and pods from the API's JSON; only this module reads capacity, taints and requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from omni_operator.topology.inventory import Node, Taint
from omni_operator.topology.quantity import parse

_ON_ITS_WAY = frozenset({None, "PodInitializing", "ContainerCreating"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of a pod as the kubelet reports it.

    Attributes:
        name: Its name.
        waits: Why it does not run, such as CrashLoopBackOff; empty when it does, or is on its way.
        message: What the kubelet says to that.
        termination_message: Why it ended with an error, now or the last time; empty when it did
            not.
    """

    name: str
    waits: str
    message: str
    termination_message: str


def containers(status: dict[str, Any]) -> tuple[Container, ...]:
    """The containers of a pod's status, those that initialise it first."""
    entries = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return tuple(_container(entry) for entry in entries)


def _container(entry: dict[str, Any]) -> Container:
    state, before = entry.get("state") or {}, (entry.get("lastState") or {}).get("terminated") or {}
    waiting = state.get("waiting") or {}
    ends = [end for end in (state.get("terminated") or {}, before) if end and end.get("exitCode", 0) != 0]
    said = [end.get("message") or f"{end.get('reason', 'Error')}, exit code {end.get('exitCode')}" for end in ends]
    return Container(
        name=entry["name"],
        waits="" if waiting.get("reason") in _ON_ITS_WAY else str(waiting["reason"]),
        message=str(waiting.get("message") or ""),
        termination_message=str(said[0]).strip() if said else "",
    )


def node(raw: dict[str, Any]) -> Node:
    """A node as offered."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
    allocatable = extended(status.get("allocatable") or {})
    return Node(
        name=meta["name"],
        labels=meta.get("labels") or {},
        taints=tuple(Taint(t["key"], t.get("value", ""), t["effect"]) for t in spec.get("taints") or ()),
        ready=ready,
        cordoned=bool(spec.get("unschedulable")),
        allocatable=allocatable,
        available=allocatable,
    )


def extended(resources: dict[str, Any]) -> dict[str, int]:
    """The extended resources of a resource list: names with a slash, in whole numbers.

    They are quantities all the same: 1000 shared RDMA devices, a device plugin's usual number, are
    written "1k".
    """
    return {name: int(parse(value)) for name, value in resources.items() if "/" in name}


def pod_requests(spec: dict[str, Any]) -> dict[str, int]:
    """Extended resources that a pod requests.

    The sum over its containers, or what its largest init container requests.
    """
    return requested(_limits(spec.get("containers")), _limits(spec.get("initContainers")))


def _limits(containers: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return [(container.get("resources") or {}).get("limits") or {} for container in containers or ()]


def requested(containers: Iterable[dict[str, Any]], init_containers: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Extended resources of a pod whose containers have these limits."""
    total: dict[str, int] = {}
    for limits in containers:
        for name, count in extended(limits).items():
            total[name] = total.get(name, 0) + count
    for limits in init_containers:
        for name, count in extended(limits).items():
            total[name] = max(total.get(name, 0), count)
    return total


def held_by(raw: dict[str, Any]) -> tuple[str, dict[str, int]] | None:
    """Node and extended resources that a pod holds; None when it holds nothing."""
    spec, phase = raw["spec"], (raw.get("status") or {}).get("phase")
    requests = pod_requests(spec)
    if not requests or not spec.get("nodeName") or phase in {"Succeeded", "Failed"}:
        return None
    return spec["nodeName"], requests
