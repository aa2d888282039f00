"""Runs the `omni` commands of docs/how-to/plan.md.

Their output goes into the page, their pictures into docs/images.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("docs/how-to/plan.md")
IMAGES = Path("docs/images")
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DRAWS = re.compile(rf"(.*) > ({IMAGES}/\S+\.svg)")
_OMNI = 'omni() { "$PYTHON" -c "from omni_operator.cli.main import main; main()" "$@"; }\n'


def files() -> dict[Path, str]:
    """Return the page with the output of its commands, and their pictures, by path."""
    found: dict[Path, str] = {}

    def filled(block: re.Match[str]) -> str:
        parts = []
        for line in block.group(1).splitlines():
            if not line.startswith("$ "):
                continue
            command = line.removeprefix("$ ")
            parts.append(line)
            if draws := _DRAWS.fullmatch(command):
                found[Path(draws.group(2))] = _run(draws.group(1))
            else:
                parts += (printed.rstrip() for printed in _run(command).splitlines())
        return "\n".join(["```console", *parts, "```"])

    page = _BLOCK.sub(filled, (ROOT / PAGE).read_text())
    return {PAGE: page, **found}


def _run(command: str) -> str:
    """Return the output of a command, with errors, in a shell of 100 columns that has `omni`."""
    kept = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "NO_COLOR"}}
    paths = [str(ROOT / "operator"), *sys.path]
    env = {**kept, "PYTHON": sys.executable, "COLUMNS": "100", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        ["bash", "-c", _OMNI + command],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout
