"""The retired words, the term for each, where a hit is allowed, and the parts that still have hits.

test_words.py scans the repository for them; docs/reference/glossary.md explains the terms.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """A retired word with the patterns of its private use.

    Names are those that Python code defines, compared without case and leading underscores.

    Attributes:
        word: The word as it is reported.
        term: The term to use.
        parts: Words that are retired anywhere in a name: `sweep` in `sweep_node`.
        names: Whole names that are retired: variables, parameters, functions and classes.
        members: Names that are retired as fields and methods of classes.
        functions: Names that are retired as functions and methods.
        types: Names that are retired as classes; compared with case.
        modules: Names of files and folders.
        names_in: Regular expression for the start of paths where names are retired.
        prose: Regular expression for comments, texts and documents, without case; a space
            also matches a line break, an escaped space only a space.
    """

    word: str
    term: str
    parts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    names_in: str = ""
    prose: str = ""


_CONTROLLER = "operator/omni_operator/controller|tests/unit"
_PLANNING = "operator|tests/unit|bench/planner"
_CLI = "operator/omni_operator/cli|tests/unit/cli"
_NOUN_LOOK = r"\b(?:a|one|each|every|this|that|the|next|last|first|second|later) looks?\b(?!\ ?up)"

RETIRED = (
    # controller
    Retired(
        word="look",
        term="reconcile, requeue, requeue_after",
        parts=("look", "looks", "looked"),
        modules=("looks",),
        prose=rf"\b(?:looks?|looked|looking) (?:at|again)\b|{_NOUN_LOOK}",
    ),
    Retired(word="again", term="requeue_after", names_in=_CONTROLLER, names=("again",)),
    Retired(word="Act", term="ActionPlan, Results", names_in=_CONTROLLER, names=("act",), modules=("act",)),
    Retired(word="Observed", term="Snapshot", names=("observed",), modules=("observed",), prose="`Observed`"),
    Retired(
        word="Outcome",
        term="ReconcileResult",
        names_in=_CONTROLLER,
        names=("outcome",),
        modules=("outcome",),
        prose="`Outcome`",
    ),
    Retired(word="Known", term="StoredRevision", types=("Known",)),
    Retired(word="verdict", term="ConditionUpdate", parts=("verdict", "verdicts"), prose=r"\bverdicts?\b"),
    Retired(word="truth", term="ConditionStatus", parts=("truth",)),
    Retired(
        word="story",
        term="EventRecord (controller), diagnostics (e2e)",
        parts=("story", "stories"),
        modules=("story",),
        prose=r"\bstor(?:y|ies)\b",
    ),
    Retired(
        word="tell, told",
        term="emit, report",
        names_in=_CONTROLLER,
        names=("tell", "told", "tells"),
        prose=r"\b(?:is|are|was|were|be|been|not|always) told\b",
    ),
    Retired(word="heard", term="collect signals", parts=("heard",), prose=r"\bheard\b"),
    Retired(
        word="witness", term="TransferMonitor", parts=("witness",), modules=("witness",), prose=r"\bwitness(?:es|ed)?\b"
    ),
    Retired(
        word="evidence", term="TransferObservation", parts=("evidence",), modules=("evidence",), prose=r"\bevidence\b"
    ),
    Retired(
        word="moved, unread",
        term="TransferObservation",
        names_in=_CONTROLLER,
        members=("moved", "unread"),
        names=("unread",),
    ),
    Retired(word="Answers", term="WarmUpResults, WarmUpResult", types=("Answers", "Answer"), modules=("answers",)),
    Retired(word="unasked", term="skipped_reason", parts=("unasked",), prose=r"\bunasked\b"),
    Retired(word="wrong", term="error", names_in=_CONTROLLER, members=("wrong",)),
    Retired(
        word="rehearsal",
        term="DryRun",
        parts=("rehearsal", "rehearse", "rehearsed", "rehearses"),
        modules=("rehearsal",),
        prose=r"\brehears\w+",
    ),
    Retired(word="bereft", term="servers with lost peers", parts=("bereft",), prose=r"\bbereft\b"),
    Retired(word="lately", term="last_restart", parts=("lately",), prose=r"\blately\b"),
    Retired(word="held_back", term="backoff_reason", parts=("held_back",)),
    Retired(word="Past", term="ReplicaKey", names_in=_CONTROLLER, types=("Past",)),
    Retired(
        word="CALM, FORGOTTEN", term="STABLE_AFTER, RESET_AFTER", names_in=_CONTROLLER, names=("calm", "forgotten")
    ),
    Retired(
        word="in_the_way",
        term="blocking_revisions, cancel_cleanups",
        parts=("in_the_way", "clear_the_way"),
    ),
    Retired(word="remembered", term="recorded", parts=("remembered",), prose=r"\bremembered\b"),
    Retired(
        word="foreign",
        term="not_owned",
        names_in=_CONTROLLER,
        names=("foreign",),
        prose=r"\bforeign (?:objects?|child|children|pods?|owners?)\b",
    ),
    Retired(
        word="saw, learn, drop",
        term="on_event, upsert, remove",
        names_in="operator",
        functions=("saw", "learn", "drop"),
        names=("saw",),
    ),
    Retired(
        word="silent",
        term="unresponsive",
        names=("silent",),
        prose=r"\bsilent (?:nodes?|servers?|pods?|stages?|heads?|parts?)\b|\b(?:is|are|goes|went) silent\b",
    ),
    Retired(word="trouble", term="waiting_reason", names=("trouble",), prose=r"\btroubled?\b"),
    Retired(word="last_words", term="termination_message", parts=("last_words",), prose=r"\blast words\b"),
    Retired(
        word="gone_by, ending_since", term="grace_deadline, deletion_requested_at", parts=("gone_by", "ending_since")
    ),
    Retired(word="retiring", term="draining (pods), removing (objects)", parts=("retiring",), prose=r"\bretiring\b"),
    Retired(
        word="sweep",
        term="cleanup pod, shared-memory cleanup",
        parts=("sweep", "sweeps", "sweeper", "sweepers", "swept", "sweeping"),
        modules=("sweeper", "sweep"),
        prose=r"\b(?:sweep(?:s|er|ers|ing)?|swept)\b",
    ),
    Retired(
        word="epoch",
        term="head generation",
        parts=("epoch", "epochs"),
        prose=r"(?<!unix\ )(?<!since\ the\ )\bepochs?\b",
    ),
    Retired(word="FOLLOWED", term="HeadRestarted", names_in="operator", names=("followed",)),
    Retired(
        word="drift", term="diff", parts=("drift", "drifts", "drifted"), modules=("drift",), prose=r"\bdrift(?:s|ed)?\b"
    ),
    # planning
    Retired(
        word="ground",
        term="TransportContext, is_still_feasible",
        parts=("ground", "grounds"),
        modules=("ground",),
        prose=r"\b(?:its|their|lost|no|the|same) ground\b(?! truth)|\bground\.py\b",
    ),
    Retired(
        word="stands",
        term="is_still_feasible",
        functions=("stands",),
        modules=("stands",),
        prose=r"\bstands? on\b|\bstanding on\b|\bplan stands\b|\bstill stands?\b",
    ),
    Retired(word="terrain", term="NodeCapacity", parts=("terrain",), modules=("terrain",), prose=r"\bterrain\b"),
    Retired(word="Measure", term="Capacity", names_in=_PLANNING, types=("Measure",), names=("measure",)),
    Retired(word="offers, offered", term="allocatable", names_in=_PLANNING, names=("offers", "offered")),
    Retired(word="free", term="available", names_in=_PLANNING, members=("free",)),
    Retired(word="Way", term="TransportAssignment", names_in=_PLANNING, names=("way", "ways"), modules=("way", "ways")),
    Retired(word="carried", term="AssignmentCache", names_in=_PLANNING, names=("carried",)),
    Retired(word="chains", term="edge groups", names_in=_PLANNING, names=("chain", "chains")),
    Retired(word="Using", term="RdmaRequest", names_in=_PLANNING, names=("using",)),
    Retired(
        word="units, atoms, Blocks",
        term="device groups",
        names_in=_PLANNING,
        names=("units", "atoms", "atom"),
        types=("Blocks", "Block"),
    ),
    Retired(word="apart", term="across_pods", names_in=_PLANNING, names=("apart",)),
    Retired(word="each", term="per replica", names_in=_PLANNING, members=("each",)),
    Retired(word="finest", term="one_pod_per_group", parts=("finest",), prose=r"\bfinest\b"),
    Retired(word="room", term="Bin, free space", names_in=_PLANNING, names=("room", "rooms")),
    Retired(
        word="holds, takes, less",
        term="fits, capacity_for, minus",
        names_in=_PLANNING,
        functions=("holds", "takes", "less"),
    ),
    Retired(word="mover", term="payload_sender", parts=("mover", "movers"), prose=r"\bmovers?\b"),
    Retired(word="carriers", term="supported connectors", parts=("carriers", "carrier"), prose=r"\bcarriers?\b"),
    Retired(
        word="carries, EdgeUse",
        term="payload_kind",
        names_in=_PLANNING,
        members=("carries",),
        types=("Carries", "EdgeUse"),
        functions=("carries",),
    ),
    Retired(
        word="line (of releases)",
        term="release series",
        members=("line",),
        functions=("line_of",),
        prose=r"\brelease lines?\b|\b(?:unknown|newer|older) lines?\b|\blines? of (?:vllm-omni|releases)\b",
    ),
    Retired(word="records.py", term="releases.py", modules=("records",), prose=r"\brecords\.py\b"),
    Retired(word="Rejected, rejects.py", term="TransportRejection", types=("Rejected",), modules=("rejects",)),
    Retired(
        word="Refused, refusal.py",
        term="PlanError",
        types=("Refused",),
        names=("refusal", "refusals"),
        modules=("refusal", "refusals"),
    ),
    Retired(
        word="whole, streams",
        term="async_chunk off, on",
        names_in=_PLANNING,
        names=("whole", "streams"),
        prose=r"`(?:whole|streams)`",
    ),
    # command line, tests, documents
    Retired(word="decided", term="plan source", names_in=_CLI, types=("Decided",), modules=("decided",)),
    Retired(word="No", term="CommandFailure", names_in=_CLI, types=("No",)),
    Retired(word="places", term="placement view", names_in=_CLI, functions=("places",), modules=("places",)),
    Retired(word="lane", term="routing, track", parts=("lane", "lanes"), modules=("lanes",), prose=r"\blanes?\b"),
    Retired(word="stack", term="rows", names_in=_CLI, types=("Stack",), modules=("stack",)),
    Retired(
        word="running",
        term="live revision",
        names_in=_CLI,
        types=("Running",),
        functions=("running",),
        modules=("running",),
    ),
    Retired(word="whose", term="Identity", names_in=_CLI, names=("whose",)),
    Retired(word="surroundings", term="ClusterView", parts=("surroundings",), prose=r"\bsurroundings\b"),
    Retired(word="standing", term="pod report", modules=("standing", "cli_standing")),
    Retired(
        word="scene", term="reconcile harness", parts=("scene", "scenes"), modules=("scene",), prose=r"\bscenes?\b"
    ),
    Retired(
        word="world",
        term="fake cluster (world), strategies (worlds)",
        parts=("world", "worlds"),
        modules=("world", "worlds"),
        prose=r"\bworlds?\b(?![\ _-]size)",
    ),
    Retired(word="cases.py", term="strategies", modules=("cases",)),
    Retired(word="blow", term="fault injection", parts=("blow", "blows"), modules=("blows",), prose=r"\bblows?\b"),
    Retired(
        word="plane",
        term="control plane",
        names=("plane",),
        modules=("plane",),
        prose=r"(?<!control\ )(?<!control-)(?<!data\ )\bplanes?\b(?!:No)",
    ),
    Retired(word="drawn/", term="snapshots/", modules=("drawn",), prose=r"\btests/drawn\b"),
    Retired(word="(run)", term="verified with <release>", prose=r"\((?:[\d.,\ ]+)?run(?:,[\d.,\ ]+)?\)"),
    Retired(word="the house", term="layers", prose=r"\b(?:of|in) the house\b"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A file where a retired word is the right one.

    Attributes:
        word: The entry's word.
        files: Pattern of paths.
        text: Regular expression that the line must match.
        why: The reason.
    """

    word: str
    files: str
    text: str = ""
    why: str


EXCEPTIONS = (
    Allowed(
        word="Observed",
        files="operator/omni_operator/api/status.py",
        text=r"^    observed\b",
        why="status.plan.edges[].observed is a field of the CRD",
    ),
    Allowed(
        word="free",
        files="operator/omni_operator/planning/model.py",
        text=r"^    free: tuple\b",
        why="domains.free is a key of the plans in ConfigMaps",
    ),
    Allowed(
        word="retiring",
        files="CHANGELOG.md",
        text=r"`Retiring`",
        why="it says that the reason has another name now",
    ),
)

# Parts that still have hits; remove an entry with its last hit.
PENDING: tuple[str, ...] = (
    "e2e/engine/*",  # its files are keys of the engine images, which are built anew with the next change of them
)
