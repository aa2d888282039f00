"""Makes the text for people, and the condition's reason, of what a launcher reported.

Pods report codes and facts (launcher/README.md); which field of the spec helps is known here. A
reason other than ServerFailing is a cause that the message explains by itself. ServerFailing says
that something in a pod ended, so that its reader wants the pod's name as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from omni_operator.api.conditions import Reason
from omni_operator.controller.state.termination import TerminationReport, parse

_Fields = Mapping[str, Any]
_WITH_RAY = "set engine.image to one with vllm-omni, Ray and bash"
_RESTARTED = "all processes of this pod were ended to start anew with it"


def explain(report: TerminationReport) -> tuple[Reason, str]:
    """The reason and the sentence.

    Of what this operator does not know, the message as it was written.
    """
    if not report.is_readable or report.code not in TEXTS:
        return Reason.SERVER_FAILING, report.raw
    reason, text = TEXTS[report.code]
    try:
        # JSON may have half a surrogate pair, which nothing that writes UTF-8 accepts.
        return reason, text(report.fields).encode(errors="replace").decode()
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return reason, report.raw


def readable(message: str) -> str:
    """A termination message for people: explained when a launcher has written it, else as it is."""
    report = parse(message)
    return message if report is None else explain(report)[1]


def _numbers(version: str, count: int) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:count]]


def _dotted(numbers: list[int]) -> str:
    return ".".join(str(number) for number in numbers)


def _as_in_spec(version: str) -> str:
    """A version of an image as the spec writes it: three numbers, and .post where it has one."""
    found = re.match(r"\d+\.\d+\.\d+(\.post\d+)?", version)
    return found.group() if found else _dotted([*_numbers(version, 3), 0, 0][:3])


def _after(fields: _Fields) -> str:
    return f"(after {fields['seconds']:.0f} s)"


def _engine_release(fields: _Fields) -> str:
    found, expected = fields["found"], fields["expected"]
    return (
        f"the engine image has vllm-omni {found}, but engine.version is {expected}, by which flags, "
        "configuration and connectors were "
        f"chosen; set engine.version to {_as_in_spec(found)}, or engine.image to one with vllm-omni "
        f"{_dotted(_numbers(expected, 2))}"
    )


def _mooncake_missing(_: _Fields) -> str:
    return (
        "the engine image has no Mooncake, by which an edge was planned; set engine.image to one that has "
        "it, or see with "
        "`omni explain` what else would do"
    )


def _mooncake_version(fields: _Fields) -> str:
    found, least, below = fields["found"], fields["least"], fields["below"]
    wanted = f"{least} or later" if least else f"one before {below}"
    return (
        f"the engine image has Mooncake {found}, and the plan relies on {wanted}; set "
        f"engine.mooncakeVersion to {_as_in_spec(found)}, "
        "by which the plan is made anew, or engine.image to one with such a Mooncake"
    )


def _cannot_start(fields: _Fields) -> str:
    process, command = fields["process"], fields["command"]
    whose = f"{process} cannot start: " if process else ""
    remedy = _WITH_RAY if command == "ray" else "set engine.image to one with vllm-omni"
    return f"{whose}the engine image cannot run `{command}` ({fields['detail']}); {remedy}"


def _ray_missing(fields: _Fields) -> str:
    return f"the engine image has no Ray that {fields['python']} finds; {_WITH_RAY}"


def _ray_unexpected(fields: _Fields) -> str:
    found, expected = fields["found"], fields["expected"]
    least = f">={expected}" if fields["at_least"] else expected
    whose = f"this vllm-omni release is assumed to have {least}" if fields["at_least"] else f"ray.version is {least}"
    return (
        f"the engine image has Ray {found}, but {whose}, by which KubeRay chooses probes and token "
        "authentication; set ray.version to "
        f"{_dotted(_numbers(found, 3))}, or engine.image to one with Ray {least}"
    )


def _ray_version(fields: _Fields) -> str:
    found, cluster = fields["found"], fields["cluster"]
    if fields["found_python"] and fields["cluster_python"]:
        return (
            f"the serving image has Ray {found} on Python {fields['found_python']}, the Ray cluster has Ray "
            f"{cluster} on Python "
            f"{fields['cluster_python']}; both must be equal: use one engine image for both"
        )
    return (
        f"the serving image has Ray {found}, the Ray cluster has {cluster}; use one engine image for both, "
        "or set engine.image to one "
        f"with Ray {cluster}"
    )


def _ray_unreachable(fields: _Fields) -> str:
    address = fields["address"]
    places = {
        "head": f"the Ray head at {address}",
        "dashboard": f"the Ray dashboard at {address}",
        "nodes": f"the list of nodes of the Ray dashboard at {address}",
    }
    return f"{places[fields['what']]}: {fields['detail']} {_after(fields)}"


def _ray_token_refused(fields: _Fields) -> str:
    answer = f"HTTP {fields['status']} {fields['detail']}".strip()
    return f"the Ray dashboard at {fields['address']} refuses the token: {answer}; check ray.tokenAuth"


def _ray_start_failed(fields: _Fields) -> str:
    code = fields["exit_code"]
    end = "it did not end" if code is None else f"exit code {code}: {fields['detail']}"
    return f"`ray start`: {end} {_after(fields)}"


def _ray_head_lost(fields: _Fields) -> str:
    return f"the Ray head at {fields['address']} could not be reached right after it was joined: {fields['detail']}"


def _ray_resources(fields: _Fields) -> str:
    found, nodes = fields["found"], fields["nodes"]
    return f"{fields['needed']} accelerators in Ray: Ray has {found} on {nodes} nodes {_after(fields)}"


def _stage_lost(fields: _Fields) -> str:
    where = f"pid {fields['pid']} at {fields['address'] or 'an unknown address'}"
    why = fields["detail"] or "Ray does not say why"
    return (
        f"Ray actor {fields['actor']} ({where}) has died: {why}; the server was ended to start anew, "
        "since it would not notice"
    )


def _process_ended(fields: _Fields) -> str:
    code = fields["exit_code"]
    how = f"signal {fields['signal']}" if code is None else f"exit code {code}"
    return f"{fields['process']} ended ({how}); all processes of this pod were ended with it"


def _head_restarted(fields: _Fields) -> str:
    return f"the head at {fields['address']} has started anew, and takes no stages of its predecessor; {_RESTARTED}"


def _head_gone(fields: _Fields) -> str:
    return f"the head at {fields['address']} is gone; {_RESTARTED}"


def _peer_lost(fields: _Fields) -> str:
    return f"the stages at {fields['address']} ended when they had joined, before this head could serve; {_RESTARTED}"


# Every code of the contract's version 1.
TEXTS: Mapping[str, tuple[Reason, Callable[[_Fields], str]]] = {
    "EngineReleaseMismatch": (Reason.ENGINE_IMAGE_MISMATCH, _engine_release),
    "MooncakeMissing": (Reason.ENGINE_IMAGE_MISMATCH, _mooncake_missing),
    "MooncakeVersionMismatch": (Reason.ENGINE_IMAGE_MISMATCH, _mooncake_version),
    "CannotStart": (Reason.ENGINE_IMAGE_MISMATCH, _cannot_start),
    "RayMissing": (Reason.ENGINE_IMAGE_MISMATCH, _ray_missing),
    "RayVersionUnexpected": (Reason.RAY_VERSION_MISMATCH, _ray_unexpected),
    "RayVersionMismatch": (Reason.RAY_VERSION_MISMATCH, _ray_version),
    "RayUnreachable": (Reason.RAY_UNREACHABLE, _ray_unreachable),
    "RayTokenRefused": (Reason.RAY_UNREACHABLE, _ray_token_refused),
    "RayStartFailed": (Reason.RAY_UNREACHABLE, _ray_start_failed),
    "RayHeadLost": (Reason.RAY_UNREACHABLE, _ray_head_lost),
    "RayResourcesMissing": (Reason.RAY_RESOURCES_MISSING, _ray_resources),
    "StageLost": (Reason.STAGE_LOST, _stage_lost),
    "ProcessEnded": (Reason.SERVER_FAILING, _process_ended),
    "HeadRestarted": (Reason.SERVER_FAILING, _head_restarted),
    "HeadGone": (Reason.SERVER_FAILING, _head_gone),
    "PeerLost": (Reason.SERVER_FAILING, _peer_lost),
}
