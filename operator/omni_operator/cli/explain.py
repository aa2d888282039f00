"""A plan in sentences.

For each edge: what was chosen and why, why each better choice was rejected, and what would
allow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from omni_operator.api.spec import Backend, Connector, Protocol
from omni_operator.api.status import EdgeStatus, PlanStatus
from omni_operator.connectors.transport import Rejection
from omni_operator.engine.release import Defect, PayloadKind
from omni_operator.engine.releases import exact_release, releases
from omni_operator.planning.model import EdgePlan, Plan
from omni_operator.planning.plan_error import REMEDIES
from omni_operator.topology.quantity import about, binary

_REACH = {
    "SamePod": "inside one pod",
    "SameNode": "between two pods on one node",
    "CrossNode": "between pods that may be on different nodes",
}
_PROTOCOL = {"rdma": "RDMA", "tcp": "TCP"}
_USE = {
    PayloadKind.ONE_PART: "One payload per request",
    PayloadKind.MIDDLE: "One payload per request, and a stage of this edge both receives and sends",
    PayloadKind.CHUNKS: "The payload passes in chunks while it is made",
    PayloadKind.KV_CACHE: "A KV cache passes, rank by rank",
    PayloadKind.SYNCHRONOUS: "A diffusion stage waits for the payload with a deadline",
    PayloadKind.PROMPT: "Nothing passes a connector",
}
_BY_RELEASE = {
    Rejection.ASYNC_CHUNK_UNSUPPORTED,
    Rejection.MIDDLE_STAGE_UNSUPPORTED,
    Rejection.SYNCHRONOUS_UNSUPPORTED,
    Rejection.KV_CACHE_UNSUPPORTED,
    Rejection.NEEDS_ACCELERATOR_IN_SERVING_POD,
}


def ends(edge: EdgeStatus) -> str:
    """An edge as it is printed."""
    return f"{edge.from_stage} → {edge.to_stage}"


def edges_named(word: str, edges: Sequence[EdgeStatus]) -> list[EdgeStatus]:
    """The edges that a word names: thinker->talker, thinker-talker or thinker,talker.

    Names of stages may have dashes too, so a word can name several edges.
    """
    plain = word.replace(" ", "")
    return [e for e in edges if any(f"{e.from_stage}{sign}{e.to_stage}" == plain for sign in ("->", "-", ",", "→"))]


def paragraphs(
    plan: PlanStatus, *, detail: Plan | None, edges: Sequence[EdgeStatus]
) -> Iterator[tuple[str, list[str]]]:
    """Headings with sentences below.

    Args:
        plan: The plan as status has it.
        detail: The same plan as its revision has it; None when the revision cannot be read.
        edges: The edges to explain.
    """
    series = plan.release.rsplit(" ", 1)[-1]
    for edge in edges:
        more = _detail(edge, detail)
        yield f"{ends(edge)}: {_chosen(edge, more)}", list(_sentences(edge, more, series=series))
    if plan.notes:
        yield "Notes", [f"{note[0].upper()}{note[1:]}." for note in plan.notes]
    if found := _defects(series, detail=detail, edges=edges):
        yield (
            f"Known defects of vllm-omni {series} that matter here",
            [f"{defect.code}: {defect.what} [{defect.source}]." for defect in found],
        )


def _detail(edge: EdgeStatus, plan: Plan | None) -> EdgePlan | None:
    wanted = (edge.from_stage, edge.to_stage)
    return next((e for e in plan.edges if (e.from_stage, e.to_stage) == wanted), None) if plan else None


def _chosen(edge: EdgeStatus, detail: EdgePlan | None) -> str:
    where = _REACH.get(edge.reach, edge.reach)
    if edge.connector == "none":
        return f"no connector, {where}"
    name = detail.connector if detail and detail.connector else edge.connector
    over = "" if edge.protocol == "shm" else f" over {_PROTOCOL.get(edge.protocol, edge.protocol)}"
    return f"{name}{over}, {where}"


def _sentences(edge: EdgeStatus, detail: EdgePlan | None, *, series: str) -> Iterator[str]:
    yield f"Why: {edge.reason}."
    if detail is not None and detail.connector is not None:
        pool = f", and each end pins a pool of {binary(detail.pool_bytes)}" if detail.pool_bytes else ""
        port = f"; the producer listens on port {detail.port}" if detail.port else ""
        usual = f"about {about(detail.payload_bytes)} at a time, " if detail.payload_bytes else ""
        yield f"{_USE[detail.payload_kind]}: {usual}at most {binary(detail.max_payload_bytes)} per request{pool}{port}."
    if not edge.rejected:
        if edge.connector != "none":
            yield "Nothing better exists."
        return
    grouped: dict[tuple[str, str], list[str]] = {}
    for each in edge.rejected:
        grouped.setdefault((each.code, each.fact), []).append(each.choice)
    for (code, fact), choices in grouped.items():
        remedy = _remedy(code, choices, series=series)
        yield f"Not {' nor '.join(choices)}: {fact} ({code})." + (f" {remedy}." if remedy else "")


def _remedy(code: str, choices: Sequence[str], *, series: str) -> str:
    """What would allow a rejected choice."""
    if code not in set(Rejection):
        return ""
    rejection = Rejection(code)
    if remedy := REMEDIES.get(rejection):
        return f"To have it: {remedy}"
    if rejection is Rejection.FORBIDDEN_BY_USER:
        return "To have it: change that field of the spec"
    if rejection is Rejection.RELEASE_LACKS_CONNECTOR:
        return _first_release_with({choice.partition("/")[0] for choice in choices})
    return f"No setting changes this on vllm-omni {series}" if rejection in _BY_RELEASE else ""


def _first_release_with(names: set[str]) -> str:
    found = [r.series for r in releases() if all(Connector(name) in r.connectors for name in names & set(Connector))]
    return f"vllm-omni {found[0]} and later have it" if found else "No release that this operator knows has it"


_Relevance = Callable[[Plan | None, Sequence[EdgeStatus]], bool]


def _over(*connectors: str, protocol: str = "") -> _Relevance:
    """Relevant when an edge uses one of these connector classes."""

    def relevant(_: Plan | None, edges: Sequence[EdgeStatus]) -> bool:
        used = [e for e in edges if not protocol or e.protocol == protocol]
        return any(e.connector.startswith(connectors) for e in used)

    return relevant


def _rejected(*codes: Rejection) -> _Relevance:
    """Relevant when the planner rejected a choice for one of these reasons."""

    def relevant(_: Plan | None, edges: Sequence[EdgeStatus]) -> bool:
        return any(r.code in codes for e in edges for r in e.rejected)

    return relevant


def _mentioned(code: str) -> _Relevance:
    """Relevant when the planner names it, since it depends on more than the release."""

    def relevant(plan: Plan | None, edges: Sequence[EdgeStatus]) -> bool:
        facts = [rejected.fact for edge in edges for rejected in edge.rejected]
        return plan is None or any(code in text for text in (*facts, *plan.notes))

    return relevant


# Code of a defect to whether it is relevant to a plan; a defect without an entry is always printed.
DEFECTS: Mapping[str, _Relevance] = {
    "ShmThresholdIgnored": _over("SharedMemory"),
    "StorePutErrorsLost": _over("MooncakeStore", "MooncakeConnector"),
    "MiddleStageReceivesOnly": _rejected(Rejection.MIDDLE_STAGE_UNSUPPORTED, Rejection.ONE_CONNECTOR_PER_STAGE),
    "ChunksNeedStageId": _rejected(Rejection.ASYNC_CHUNK_UNSUPPORTED),
    "SharedEntryBindsTwice": _over("MooncakeTransferEngine"),
    "TcpWritesUnacknowledged": _mentioned("TcpWritesUnacknowledged"),
    "RdmaFallsBackToTcp": _over("Mooncake", protocol=Protocol.RDMA.value),
    "BadConnectorReferencesIgnored": _over("Mooncake", "Nixl"),
    "StagesNotReadopted": lambda plan, _: plan is None or plan.backend is Backend.HEADLESS,
}


def _defects(series: str, *, detail: Plan | None, edges: Sequence[EdgeStatus]) -> list[Defect]:
    def relevant(defect: Defect) -> bool:
        rule = DEFECTS.get(defect.code)
        return rule is None or rule(detail, edges)

    release = exact_release(series)
    return [defect for defect in release.defects if relevant(defect)] if release else []
