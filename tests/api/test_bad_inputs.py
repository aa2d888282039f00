"""Every bad input is refused by whom it should be, in words that name the field, the value and the remedy."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.plane import Plane
from hack import bad_inputs
from tests.api.operator_process import Operator
from tests.api.world import World, merge, minimal

CASES = bad_inputs.cases()
ADMISSION = [case for case in CASES if case["by"] in {"schema", "CEL"}]
CONDITIONS = [case for case in CASES if case["by"] in {"planner", "child"}]
OBSERVED: dict[str, str] = {}
_REVISION = re.compile(r"-[0-9a-f]{8}-")


@pytest.fixture(scope="module")
def worlds(plane: Plane, session_operator: Operator) -> Iterator[dict[str, World]]:
    """A namespace without and one with a pod security level; all cases for the operator are made at once."""
    if not session_operator.running:
        session_operator.start()
    plane.ensure_namespace("bad-inputs")
    plane.ensure_namespace("bad-inputs-restricted", **{"pod-security.kubernetes.io__enforce": "restricted"})
    found = {
        "": World(plane, session_operator, "bad-inputs"),
        "restricted": World(plane, session_operator, "bad-inputs-restricted"),
    }
    pool = found[""].nodes(2, nvidia_com__gpu=2)
    for case in CONDITIONS:
        base = {"placement": {"nodeSelector": pool}}
        if "clusterRef" in case["edit"].get("ray", {}):
            base = {}
        found[case.get("in", "")].create(case["name"], **merge(base, case["edit"]))
    yield found
    for world in found.values():
        world.clean()


def _judge(case: dict[str, Any], message: str) -> None:
    message = _REVISION.sub("-<revision>-", message)
    OBSERVED[case["name"]] = message
    missing = [part for part in case["says"] if part not in message]
    assert not missing, f"{missing} not in: {message}"


@pytest.mark.parametrize("case", ADMISSION, ids=lambda case: case["name"])
def test_admission(plane: Plane, worlds: dict[str, World], case: dict[str, Any]) -> None:
    world = worlds[""]
    obj = minimal(case["name"], world.namespace)
    obj["spec"] = merge(obj["spec"], case.get("edit", {}))
    query = "?fieldValidation=Strict" if "then" in case else "?fieldValidation=Strict&dryRun=All"
    status, answer = plane.call("POST", world.path() + query, obj)
    if "then" in case:
        assert status == 201, answer
        patch = {"spec": case["then"]}
        status, answer = plane.call("PATCH", world.path(case["name"]), patch, content="application/merge-patch+json")
    # An unknown field is a malformed request (400); everything else an object that cannot be processed.
    assert status == (400 if case["name"] == "misspelt-field" else 422), answer
    _judge(case, answer["message"])


@pytest.mark.parametrize("case", CONDITIONS, ids=lambda case: case["name"])
def test_conditions(worlds: dict[str, World], case: dict[str, Any]) -> None:
    world = worlds[case.get("in", "")]
    found = world.until(case["condition"], name=case["name"], status="False", reason=case["reason"])
    _judge(case, found["message"])
    if case["by"] == "planner" and case["condition"] in {"Accepted", "Planned"}:
        assert not world.children(case["name"]), "something was made for a spec that is refused"
        assert world.condition("Ready", case["name"])["message"] == found["message"]


def test_there_are_enough_cases_and_each_kind_has_some() -> None:
    assert len(CASES) >= 36
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert {case["by"] for case in CASES} == {"schema", "CEL", "planner", "child"}


def test_the_page_of_errors_is_up_to_date() -> None:
    if missing := {case["name"] for case in CASES} - set(OBSERVED):
        pytest.skip(f"not all cases ran: {sorted(missing)[:3]} ...")
    if os.environ.get("OMNI_UPDATE_DOCS"):
        bad_inputs.OBSERVED.parent.mkdir(exist_ok=True)
        bad_inputs.OBSERVED.write_text(json.dumps(OBSERVED, indent=1))
        return
    assert bad_inputs.PAGE.read_text() == bad_inputs.page(OBSERVED), "run: .venv/bin/python hack/bad_inputs.py"
