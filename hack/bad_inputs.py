"""Writes docs/reference/errors.md from tests/api/bad_inputs.yaml and messages of real servers.

`.venv/bin/python hack/bad_inputs.py` runs tests/api/test_bad_inputs.py, then writes the page.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CASES, MESSAGES, PAGE = (
    ROOT / p for p in ("tests/api/bad_inputs.yaml", "out/bad_inputs.json", "docs/reference/errors.md")
)
_SECTIONS = {
    "schema": "The API server refuses it by types and bounds of the schema (`kubectl apply` fails)",
    "CEL": "The API server refuses it by a rule of the CRD (`kubectl apply` fails)",
    "planner": "The operator refuses it in a condition; what runs stays as it is",
    "child": "The API server refuses an object that the operator makes; the condition has its words",
}
_HEAD = """# Errors

What can be wrong with an OmniDeployment, who refuses it, and the full message. Every row is a case of
`tests/api/bad_inputs.yaml`, and every message was given by a real API server and the operator. Written by
`hack/bad_inputs.py`; do not edit.

`kubectl apply` of an object that exists prints it whole before such a message; `kubectl apply --server-side` prints the
message alone. `omni plan -f FILE` says the same without a cluster.
"""


def cases() -> list[dict[str, Any]]:
    """Return the cases in the order of the file."""
    found: list[dict[str, Any]] = yaml.safe_load(CASES.read_text())
    return found


def page(messages: dict[str, str]) -> str:
    """Return the text of the page; `messages` is the message of each case by name."""
    out = [_HEAD]
    for by, about in _SECTIONS.items():
        out += [f"\n## {about}\n", "| Input | Written as | Message |", "|---|---|---|"]
        out += [_row(case, messages[case["name"]]) for case in cases() if case["by"] == by]
    return "\n".join(out) + "\n"


def _row(case: dict[str, Any], message: str) -> str:
    written = [_inline(case[key]) for key in ("edit", "then") if key in case] or [f"metadata: {{name: {case['name']}}}"]
    if "edit" not in case and "then" in case:
        written.insert(0, "(minimal)")
    place = f" (namespace: {case['in']})" if "in" in case else ""
    judged = f"{case['condition']} {case['reason']}: " if "condition" in case else ""
    cells = (f"{case['input']}{place}", ", then ".join(f"`{text}`" for text in written), f"{judged}{message}")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _inline(edit: Any) -> str:
    return (
        yaml.safe_dump(edit, default_flow_style=True, width=10_000, sort_keys=False)
        .strip()
        .removeprefix("{")
        .removesuffix("}")
    )


def main() -> None:
    """Run the cases and write the page."""
    command = [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests/api/test_bad_inputs.py")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMNI_UPDATE_DOCS": "1"}, check=False)
    if done.returncode:
        sys.exit("a case failed; the page stays as it was")
    PAGE.write_text(page(json.loads(MESSAGES.read_text())))
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
