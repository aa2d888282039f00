"""Condition types and reasons, one enum each: the vocabulary of `status.conditions`, documented in docs/reference/conditions.md."""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """What is judged. The order is the order in status."""

    ACCEPTED = "Accepted"
    PLANNED = "Planned"
    RAY_CLUSTER_READY = "RayClusterReady"
    SERVING_READY = "ServingReady"
    TRANSPORT_AS_PLANNED = "TransportAsPlanned"
    PROGRESSING = "Progressing"
    READY = "Ready"


class Truth(StrEnum):
    """A condition's status; Unknown means that the check could not run."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition has its status. The text behind each member is its entry in the reference."""

    explanation: str

    def __new__(cls, value: str, explanation: str) -> Reason:
        """A member is its name in status; the explanation is for people."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.explanation = explanation
        return member

    NOT_APPLICABLE = "NotApplicable", "Nothing to judge: nothing of this kind exists now, or the backend has none."
    VALID = "Valid", "The spec is valid and everything it names is known."
    INVALID_SPEC = "InvalidSpec", "The spec cannot be used; the message names the field, the value and the remedy."
    UNSUPPORTED_RELEASE = "UnsupportedRelease", "No release record exists for engine.version."
    UNKNOWN_PIPELINE = (
        "UnknownPipeline",
        "Neither model.name nor model.pipeline tells which pipeline of the catalog to run.",
    )
    BACKEND_UNAVAILABLE = "BackendUnavailable", "The release cannot run stages the way engine.backend asks."
    FOREIGN_OBJECT = (
        "ForeignObject",
        "An object of a needed name exists and belongs to somebody else; it is not touched.",
    )

    PLAN_FITS = "PlanFits", "A layout exists and the free accelerators can hold it."
    WAITING_FOR_CAPACITY = (
        "WaitingForCapacity",
        "A layout exists, but its accelerators are taken now; pods stay Pending.",
    )
    NO_LAYOUT = "NoLayout", "No layout fits the nodes at all; the message says what is missing."
    POLICY_CANNOT_BE_MET = "PolicyCannotBeMet", "A policy of the spec (such as transport.rdma Require) cannot be met."
    HELD = "Held", "rollout.strategy is Hold: the spec changed, the running revision stays."

    RAY_READY = "RayReady", "The Ray head is ready and all workers have joined."
    RAY_STARTING = "RayStarting", "The RayCluster exists; its pods are not all ready yet."
    RAY_CLUSTER_MISSING = "RayClusterMissing", "ray.clusterRef names a RayCluster that does not exist."
    RAY_PODS_FAILING = "RayPodsFailing", "A pod of the RayCluster fails; the message has the container's own reason."
    UNSCHEDULABLE = "Unschedulable", "The scheduler finds no node for a pod; the message is the scheduler's."

    SERVER_READY = (
        "ServerReady",
        "Every server answers /health and has answered its warm-up request, or the message says why none was tried.",
    )
    SERVER_STARTING = "ServerStarting", "The server waits for Ray or initialises the engine."
    SERVER_FAILING = "ServerFailing", "The server's container ended with an error; the message has its last words."
    WARMING_UP = "WarmingUp", "A server that became ready is asked its first request (serving.warmUp)."
    WARM_UP_FAILED = (
        "WarmUpFailed",
        "A server answers /health but not its warm-up request (serving.warmUp); the message has the answer. It is asked again.",
    )
    SERVER_NOT_ANSWERING = (
        "ServerNotAnswering",
        "A server that was up does not answer /health now: it is overloaded or hangs. It leaves the Service, and is restarted if that lasts.",
    )
    STORE_NOT_READY = (
        "StoreNotReady",
        "The Mooncake master, through which stages find each other's results, has no ready pod, so no replica serves.",
    )
    NODE_LOST = (
        "NodeLost",
        "A pod's node is not Ready. A server is replaced after 300 s; pods of a RayCluster only when the node is back or deleted.",
    )
    STAGE_LOST = (
        "StageLost",
        "A stage's Ray actor ended, which the server does not notice (0.14, 0.16); the server was ended to start anew with all stages.",
    )
    RESTART_BACK_OFF = (
        "RestartBackOff",
        "Servers lost what they had joined soon after they were ready, again and again; each was ended, and the next is made later each time.",
    )
    ENGINE_IMAGE_MISMATCH = (
        "EngineImageMismatch",
        "The engine image has another release of vllm-omni, or another Mooncake, than those by which the plan was made.",
    )
    RAY_VERSION_MISMATCH = "RayVersionMismatch", "Serving image and Ray cluster differ in Ray or Python version."
    RAY_UNREACHABLE = "RayUnreachable", "The server cannot reach the Ray head."
    RAY_RESOURCES_MISSING = "RayResourcesMissing", "Ray has fewer accelerators than the pipeline needs."

    PLACEMENT_AS_PLANNED = (
        "PlacementAsPlanned",
        "Every pod is ready and where the plan relies on it to be; the engine (0.14 to 0.20) counts no payloads, or no edge has a connector.",
    )
    PLACEMENT_DIFFERS = "PlacementDiffers", "A pod is not where the plan relies on it to be; edges may be broken."
    RDMA_NOT_VERIFIED = (
        "RdmaNotVerified",
        "Placement is as planned and pods hold the RDMA resource; whether transfers use it has not been observed. Mooncake "
        "falls back to TCP without an error.",
    )
    TRANSFERS_COUNTED = "TransfersCounted", "Placement is as planned, and the engine counted payloads on every edge."
    NOT_USED_YET = (
        "NotUsedYet",
        "Placement is as planned; no payload has been seen on an edge, or the engine's counters cannot be read.",
    )
    TRANSPORT_DEGRADED = (
        "TransportDegraded",
        "RDMA was planned, and a pod's log says that it is not used; the message has the edge, the pod and the line.",
    )
    NOT_OBSERVED_YET = "NotObservedYet", "Pods are not all placed and ready yet."

    CHILD_REFUSED = (
        "ChildRefused",
        "The API server refuses a child, or would refuse one of a new revision (what runs is kept); the message has its reason.",
    )
    KUBERAY_MISSING = "KubeRayMissing", "The API server does not know RayClusters: KubeRay is not installed."
    NEW_REVISION = "NewRevision", "A new revision is starting."
    RETIRING = "Retiring", "The old revision is being removed before the new one starts."
    DELETING = "Deleting", "The OmniDeployment is being deleted; the message says what that waits for."
    REVISION_UNREADABLE = (
        "RevisionUnreadable",
        "The record of a running revision was written by an operator that this one does not understand; nothing is touched.",
    )
    COMPLETE = "Complete", "The revision is up."
    DEADLINE_EXCEEDED = "DeadlineExceeded", "The revision did not become Ready within rollout.progressDeadlineSeconds."

    SERVING = (
        "Serving",
        "Ray is up, and every server at status.endpoint answers /health and, where a warm-up request is "
        "known (serving.warmUp), has answered it, so that a request has passed every stage. On 0.14 and 0.16 /health alone does not notice a dead stage.",
    )
    SERVING_EARLIER_SPEC = (
        "ServingEarlierSpec",
        "As Serving, but of a spec before the last edit, which is refused, cannot be planned or is held; Accepted or Planned says why.",
    )
    DEGRADED = "Degraded", "Some replicas of the pipeline serve, others do not."
    NOT_SERVING = "NotServing", "No replica of the pipeline serves; the message has the first cause."
    SUSPENDED = "Suspended", "The OmniDeployment is suspended (or scaled to 0); no accelerators are held."
