"""Every bad input is rejected; the message names the field, the value and the remedy."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.control_plane import ControlPlane
from hack import bad_inputs
from tests.api.namespace_under_test import NamespaceUnderTest, merge, minimal
from tests.api.operator_process import Operator

CASES = bad_inputs.cases()
ADMISSION = [case for case in CASES if case["by"] in {"schema", "CEL"}]
CONDITIONS = [case for case in CASES if case["by"] in {"planner", "child"}]
MESSAGES: dict[str, str] = {}
_REVISION = re.compile(r"-[0-9a-f]{8}-")


@pytest.fixture(scope="module")
def spaces(control_plane: ControlPlane, session_operator: Operator) -> Iterator[dict[str, NamespaceUnderTest]]:
    """Namespaces by pod security level, with the objects of all cases for the operator."""
    if not session_operator.running:
        session_operator.start()
    control_plane.ensure_namespace("bad-inputs")
    control_plane.ensure_namespace("bad-inputs-restricted", **{"pod-security.kubernetes.io__enforce": "restricted"})
    found = {
        "": NamespaceUnderTest(control_plane, session_operator, "bad-inputs"),
        "restricted": NamespaceUnderTest(control_plane, session_operator, "bad-inputs-restricted"),
    }
    pool = found[""].nodes(2, nvidia_com__gpu=2)
    for case in CONDITIONS:
        base = {"placement": {"nodeSelector": pool}}
        if "clusterRef" in case["edit"].get("ray", {}):
            base = {}
        found[case.get("in", "")].create(case["name"], **merge(base, case["edit"]))
    yield found
    for space in found.values():
        space.clean()


def _check_message(case: dict[str, Any], message: str) -> None:
    message = _REVISION.sub("-<revision>-", message)
    MESSAGES[case["name"]] = message
    missing = [part for part in case["says"] if part not in message]
    assert not missing, f"{missing} not in: {message}"


@pytest.mark.parametrize("case", ADMISSION, ids=lambda case: case["name"])
def test_admission(control_plane: ControlPlane, spaces: dict[str, NamespaceUnderTest], case: dict[str, Any]) -> None:
    space = spaces[""]
    obj = minimal(case["name"], space.namespace)
    obj["spec"] = merge(obj["spec"], case.get("edit", {}))
    query = "?fieldValidation=Strict" if "then" in case else "?fieldValidation=Strict&dryRun=All"
    status, answer = control_plane.call("POST", space.path() + query, obj)
    if "then" in case:
        assert status == 201, answer
        patch = {"spec": case["then"]}
        status, answer = control_plane.call(
            "PATCH", space.path(case["name"]), patch, content="application/merge-patch+json"
        )
    # An unknown field is a malformed request (400); all others are objects that cannot be
    # processed (422).
    assert status == (400 if case["name"] == "misspelt-field" else 422), answer
    _check_message(case, answer["message"])


@pytest.mark.parametrize("case", CONDITIONS, ids=lambda case: case["name"])
def test_conditions(spaces: dict[str, NamespaceUnderTest], case: dict[str, Any]) -> None:
    space = spaces[case.get("in", "")]
    found = space.until(case["condition"], name=case["name"], status="False", reason=case["reason"])
    _check_message(case, found["message"])
    if case["by"] == "planner" and case["condition"] in {"Accepted", "Planned"}:
        assert not space.children(case["name"]), "something was made for a spec that is refused"
        assert space.condition("Ready", case["name"])["message"] == found["message"]


def test_there_are_enough_cases_and_each_kind_has_some() -> None:
    assert len(CASES) >= 36
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert {case["by"] for case in CASES} == {"schema", "CEL", "planner", "child"}


def test_the_page_of_errors_is_up_to_date() -> None:
    if missing := {case["name"] for case in CASES} - set(MESSAGES):
        pytest.skip(f"not all cases ran: {sorted(missing)[:3]} ...")
    if os.environ.get("OMNI_UPDATE_DOCS"):
        bad_inputs.MESSAGES.parent.mkdir(exist_ok=True)
        bad_inputs.MESSAGES.write_text(json.dumps(MESSAGES, indent=1))
        return
    assert bad_inputs.PAGE.read_text() == bad_inputs.page(MESSAGES), "run: .venv/bin/python hack/bad_inputs.py"
