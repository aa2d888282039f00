"""The revision's ConfigMap: its spec, its plan, the stage configuration, and what starts it.

Immutable, and without secrets.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from omni_operator.api.spec import Backend
from omni_operator.children import names, stage_config
from omni_operator.children.names import Component, Owner
from omni_operator.children.revision import Revision, spec_json

_LAUNCHERS = {Backend.RAY: names.LAUNCHER_FILE, Backend.HEADLESS: names.SUPERVISOR_FILE}


def build(owner: Owner, revision: Revision) -> dict[str, Any]:
    """The ConfigMap."""
    data = {
        names.SPEC_FILE: json.dumps(spec_json(revision.spec), indent=1, sort_keys=True),
        names.PLAN_FILE: json.dumps(revision.plan.model_dump(mode="json"), indent=1, sort_keys=True),
        names.STAGES_FILE: stage_config.render(owner, revision),
    }
    for script in (names.IMAGE_CHECK_FILE, names.MESSAGE_FILE, _LAUNCHERS.get(revision.plan.backend)):
        if script is not None:
            data[script] = _script(script)
    return {**head(owner, revision), "immutable": True, "data": data}


def head(owner: Owner, revision: Revision) -> dict[str, Any]:
    """The ConfigMap without its data."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": names.metadata(
            owner,
            names.base(owner, revision.name),
            Component.CONFIG,
            revision=revision.name,
            annotations={names.SPEC_DIGEST: revision.spec_digest, names.RENDERED_BY: revision.rendered_by},
        ),
    }


@cache
def _script(name: str) -> str:
    return resources.files("omni_operator").joinpath("launcher", name).read_text()
