"""Condition types and reasons in one table.

`status.conditions`, events, `omni status` and the reference page are made from it. Each reason says
what it means, how severe it is, whether reaching it is a Kubernetes Event, and what a person should
do next. The events, the command line and docs/reference/conditions.md are made from it.
"""

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


class ConditionStatus(StrEnum):
    """Status of a condition; Unknown means that the check could not run."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Severity(StrEnum):
    """How a reason is shown: as it should be, on its way, or in need of somebody's attention."""

    NORMAL = "Normal"
    PROGRESS = "Progress"
    WARNING = "Warning"


# The next step of a reason whose message has the remedy.
MESSAGE_HAS_REMEDY = "{message}"


class Reason(StrEnum):
    """Why a condition has its status.

    Attributes:
        explanation: What it means, for the reference.
        severity: How it is shown; a warning's Event is of type Warning.
        event: Whether reaching it is emitted as an Event.
        next_step: What to do; {name}, {namespace} and {message} are filled in. It is
            MESSAGE_HAS_REMEDY where the message says it, and empty where there is nothing to do.
    """

    explanation: str
    severity: Severity
    event: bool
    next_step: str

    def __new__(
        cls,
        value: str,
        explanation: str,
        severity: Severity = Severity.NORMAL,
        next_step: str = "",
        event: bool | None = None,
    ) -> Reason:
        """A member is its name in status; the rest is its row of the table.

        Warnings are events where it does not say.
        """
        member = str.__new__(cls, value)
        member._value_ = value
        member.explanation = explanation
        member.severity = severity
        member.event = severity is Severity.WARNING if event is None else event
        member.next_step = next_step
        return member

    @classmethod
    def of(cls, value: str) -> Reason:
        """The reason that a condition in status names.

        Raises:
            KeyError: It is none of this version's.
        """
        found = cls._value2member_map_[value]
        assert isinstance(found, cls)
        return found

    NOT_APPLICABLE = ("NotApplicable", "Nothing to judge: nothing of this kind exists now, or the backend has none.")
    VALID = ("Valid", "The spec is valid and everything it names is known.")
    INVALID_SPEC = (
        "InvalidSpec",
        "The spec cannot be used; the message names the field, the value and the remedy.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    UNSUPPORTED_RELEASE = (
        "UnsupportedRelease",
        "No release record exists for engine.version.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    UNKNOWN_PIPELINE = (
        "UnknownPipeline",
        "Neither model.name nor model.pipeline tells which pipeline of the catalog to run.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    BACKEND_UNAVAILABLE = (
        "BackendUnavailable",
        "The release cannot run stages the way engine.backend asks.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    FOREIGN_OBJECT = (
        "ForeignObject",
        "An object of a needed name exists and belongs to somebody else; it is not touched.",
        Severity.WARNING,
        "delete or rename the object that the message names, or rename this OmniDeployment",
    )
    PLAN_FITS = ("PlanFits", "A layout exists and the available accelerators can hold it.")
    WAITING_FOR_CAPACITY = (
        "WaitingForCapacity",
        "A layout exists, but its accelerators are taken now; pods stay Pending.",
    )
    NAMESPACE_UNKNOWN = (
        "NamespaceUnknown",
        "The operator cannot read the namespace, whose pod security level decides what may be "
        "planned; the message says why.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    NO_LAYOUT = (
        "NoLayout",
        "No layout fits the nodes at all; the message says what is missing.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    POLICY_CANNOT_BE_MET = (
        "PolicyCannotBeMet",
        "A policy of the spec (such as transport.rdma Require) cannot be met.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    HELD = (
        "Held",
        "rollout.strategy is Hold: the spec changed, the running revision stays.",
        Severity.WARNING,
        "the edit is held; to roll it out, set rollout.strategy to Recreate: kubectl edit omni {name} -n {namespace}",
    )
    RAY_READY = ("RayReady", "The Ray head is ready and all workers have joined.")
    RAY_STARTING = (
        "RayStarting",
        "The RayCluster exists; its pods are not all ready yet.",
        Severity.PROGRESS,
        "wait (kubectl omni status {name} -n {namespace} --wait), or read kubectl logs -n {namespace} "
        "-l omni.vllm.ai/name={name},omni.vllm.ai/component=worker",
    )
    RAY_CLUSTER_MISSING = (
        "RayClusterMissing",
        "ray.clusterRef names a RayCluster that does not exist.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    RAY_PODS_FAILING = (
        "RayPodsFailing",
        "A pod of the RayCluster fails; the message has the container's own reason.",
        Severity.WARNING,
        "kubectl describe rayclusters,pods -n {namespace} -l omni.vllm.ai/name={name}",
    )
    UNSCHEDULABLE = (
        "Unschedulable",
        "The scheduler finds no node for a pod; the message is the scheduler's.",
        Severity.WARNING,
        "kubectl omni inventory",
    )
    SERVER_READY = (
        "ServerReady",
        "Every server answers /health and has answered its warm-up request, or the message says why none was tried.",
    )
    SERVER_STARTING = (
        "ServerStarting",
        "The server waits for Ray or initialises the engine.",
        Severity.PROGRESS,
        "wait (kubectl omni status {name} -n {namespace} --wait), or read kubectl logs -n {namespace} "
        "-l omni.vllm.ai/name={name},omni.vllm.ai/component=serving --tail 20",
    )
    SERVER_FAILING = (
        "ServerFailing",
        "The server's container ended with an error; the message quotes its termination message.",
        Severity.WARNING,
        "kubectl logs -n {namespace} -l omni.vllm.ai/name={name},omni.vllm.ai/component=serving --previous --tail 50",
    )
    WARMING_UP = (
        "WarmingUp",
        "A server that became ready is asked its first request (serving.warmUp).",
        Severity.PROGRESS,
        "wait for the answer to the first request (kubectl omni status {name} -n {namespace} --wait), "
        "or read kubectl logs -n {namespace} -l "
        "omni.vllm.ai/name={name},omni.vllm.ai/component=serving --tail 20",
    )
    WARM_UP_FAILED = (
        "WarmUpFailed",
        "A server answers /health but not its warm-up request (serving.warmUp); the message has the "
        "answer. It is asked again.",
        Severity.WARNING,
        "kubectl logs -n {namespace} -l omni.vllm.ai/name={name},omni.vllm.ai/component=serving "
        "--tail 50; correct serving.warmUp if the request does not suit the model",
    )
    SERVER_NOT_ANSWERING = (
        "ServerNotAnswering",
        "A server that was up does not answer /health now: it is overloaded or hangs. It leaves the "
        "Service, and is restarted if that lasts.",
        Severity.PROGRESS,
        "wait (kubectl omni status {name} -n {namespace} --wait), or read kubectl logs -n {namespace} "
        "-l omni.vllm.ai/name={name},omni.vllm.ai/component=serving --tail 50",
    )
    STORE_NOT_READY = (
        "StoreNotReady",
        "The Mooncake master, through which stages find each other's results, has no ready pod, so no replica serves.",
        Severity.WARNING,
        "kubectl logs -n {namespace} -l omni.vllm.ai/name={name},omni.vllm.ai/component=store --tail 50",
    )
    NODE_LOST = (
        "NodeLost",
        "A pod's node is not Ready. A server is replaced after 300 s; pods of a RayCluster only when "
        "the node is back or deleted.",
        Severity.WARNING,
        "bring the node back, or delete it if it is gone for good: kubectl get nodes",
    )
    STAGE_LOST = (
        "StageLost",
        "A stage's Ray actor ended, which the server does not notice (0.14, 0.16); the server was "
        "ended to start anew with all stages.",
        Severity.WARNING,
        "wait, all stages restart (kubectl omni status {name} -n {namespace} --wait); why one "
        "ended: kubectl logs -n {namespace} -l "
        "omni.vllm.ai/name={name},omni.vllm.ai/component=serving --previous --tail 50",
    )
    RESTART_BACK_OFF = (
        "RestartBackOff",
        "Servers lost what they had joined soon after they were ready, again and again; each was "
        "ended, and the next is made later each time.",
        Severity.WARNING,
        "inspect the pod that the message names, or wait (kubectl omni status {name} -n {namespace} --wait)",
    )
    ENGINE_IMAGE_MISMATCH = (
        "EngineImageMismatch",
        "The engine image has another release of vllm-omni, or another Mooncake, than those by which "
        "the plan was made, or lacks a program.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    RAY_VERSION_MISMATCH = (
        "RayVersionMismatch",
        "Serving image and Ray cluster differ in Ray or Python version.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    RAY_UNREACHABLE = (
        "RayUnreachable",
        "The server cannot reach the Ray head.",
        Severity.WARNING,
        "correct what the message names, or read kubectl logs -n {namespace} "
        "-l omni.vllm.ai/name={name},omni.vllm.ai/component=head --tail 50",
    )
    RAY_RESOURCES_MISSING = (
        "RayResourcesMissing",
        "Ray has fewer accelerators than the pipeline needs.",
        Severity.WARNING,
        "find the workers that have not joined: kubectl get pods -n {namespace} "
        "-l omni.vllm.ai/name={name},omni.vllm.ai/component=worker",
    )
    PLACEMENT_AS_PLANNED = (
        "PlacementAsPlanned",
        "Every pod is ready and where the plan relies on it to be; the engine (0.14 to 0.20) counts "
        "no payloads, or no edge has a connector.",
    )
    PLACEMENT_DIFFERS = (
        "PlacementDiffers",
        "A pod is not where the plan relies on it to be; edges may be broken.",
        Severity.WARNING,
        "kubectl get pods -n {namespace} -l omni.vllm.ai/name={name} -o wide",
    )
    RDMA_NOT_VERIFIED = (
        "RdmaNotVerified",
        "Placement is as planned and pods hold the RDMA resource; whether transfers use it has not "
        "been observed. Mooncake falls back to TCP without an error.",
    )
    TRANSFERS_COUNTED = ("TransfersCounted", "Placement is as planned, and the engine counted payloads on every edge.")
    NOT_USED_YET = (
        "NotUsedYet",
        "Placement is as planned; no payload has been seen on an edge, or the engine's counters cannot be read.",
        Severity.PROGRESS,
    )
    TRANSPORT_DEGRADED = (
        "TransportDegraded",
        "RDMA was planned, and a pod's log says that it is not used; the message has the edge, the pod and the line.",
        Severity.WARNING,
        "kubectl omni explain {name} -n {namespace}",
    )
    NOT_OBSERVED_YET = ("NotObservedYet", "Pods are not all placed and ready yet.", Severity.PROGRESS)
    CHILD_REFUSED = (
        "ChildRefused",
        "The API server refuses a child, or would refuse one of a new revision (what runs is kept); "
        "the message has its reason.",
        Severity.WARNING,
        "remove what refuses it (a quota, an admission policy), or correct the spec: "
        "kubectl edit omni {name} -n {namespace}",
    )
    KUBERAY_MISSING = (
        "KubeRayMissing",
        "The API server does not know RayClusters: KubeRay is not installed.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    NEW_REVISION = ("NewRevision", "A new revision is starting.", Severity.PROGRESS)
    DRAINING = (
        "Draining",
        "The pods of an old revision end and its objects are removed before the new one starts.",
        Severity.PROGRESS,
        "",
        True,
    )
    DELETING = (
        "Deleting",
        "The OmniDeployment is being deleted; the message says what that waits for.",
        Severity.PROGRESS,
        "",
        True,
    )
    REVISION_UNREADABLE = (
        "RevisionUnreadable",
        "The record of a running revision was written by an operator that this one does not "
        "understand; nothing is touched.",
        Severity.WARNING,
        MESSAGE_HAS_REMEDY,
    )
    COMPLETE = ("Complete", "The revision is up.")
    DEADLINE_EXCEEDED = (
        "DeadlineExceeded",
        "The revision did not become Ready within rollout.progressDeadlineSeconds.",
        Severity.WARNING,
        "kubectl omni status {name} -n {namespace} (the condition Ready has the cause)",
    )
    SERVING = (
        "Serving",
        "Ray is up, and every server at status.endpoint answers /health and, where a warm-up request "
        "is known (serving.warmUp), has answered it, so that a request has passed every stage. On "
        "0.14 and 0.16 /health alone does not notice a dead stage.",
    )
    SERVING_EARLIER_SPEC = (
        "ServingEarlierSpec",
        "As Serving, but of a spec before the last edit, which is refused, cannot be planned or is "
        "held; Accepted or Planned says why.",
    )
    DEGRADED = ("Degraded", "Some replicas of the pipeline serve, others do not.", Severity.PROGRESS)
    NOT_SERVING = (
        "NotServing",
        "No replica of the pipeline serves; the message has the first cause.",
        Severity.PROGRESS,
    )
    SUSPENDED = (
        "Suspended",
        "The OmniDeployment is suspended (or scaled to 0); no accelerators are held.",
        Severity.NORMAL,
        'kubectl patch omni {name} -n {namespace} --type merge -p \'{{"spec":{{"suspend":false}}}}\'',
        True,
    )
