"""Every child of every golden case as it is sent to the API server, compared as text.

After a change that is meant: `pytest tests/unit/children/test_golden.py --update-golden`, then read
the diff.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest
import yaml

import omni_operator
from omni_operator.children import names
from tests.unit.golden_cases import CASES, Case

GOLDEN = Path(__file__).parents[2] / "golden"
FOLDER = Path(omni_operator.__file__).parent / "launcher"
SCRIPTS = {names.IMAGE_CHECK_FILE, names.MESSAGE_FILE, names.LAUNCHER_FILE, names.SUPERVISOR_FILE}


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, and no anchors, so that a diff shows lines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def rendered(case: Case) -> dict[str, str]:
    """File name to text."""
    files = {}
    for obj in case.children():
        if obj["kind"] == "ConfigMap":
            for script in SCRIPTS & obj["data"].keys():
                assert obj["data"][script] == (FOLDER / script).read_text()
                obj["data"][script] = f"(the file launcher/{script})"
        name = f"{obj['kind'].lower()}-{obj['metadata']['name']}.yaml"
        assert name not in files, f"two objects would be {name}"
        files[name] = yaml.dump(obj, Dumper=_Dumper, sort_keys=False, width=120)
    return files


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, update_golden: bool) -> None:
    folder, made = GOLDEN / name, rendered(CASES[name])
    kept = {path.name: path.read_text() for path in sorted(folder.glob("*.yaml"))}
    if update_golden:
        folder.mkdir(parents=True, exist_ok=True)
        for file in kept.keys() - made.keys():
            (folder / file).unlink()
        for file, text in made.items():
            (folder / file).write_text(text)
        return
    differences = [
        line
        for file in sorted(kept.keys() | made.keys())
        for line in difflib.unified_diff(
            kept.get(file, "").splitlines(),
            made.get(file, "").splitlines(),
            f"golden/{name}/{file}",
            "now",
            lineterm="",
        )
    ]
    if differences:
        pytest.fail(
            "\n".join(
                [*differences, "", "If this is meant: pytest tests/unit/children/test_golden.py --update-golden"]
            ),
            pytrace=False,
        )


def test_no_golden_folder_is_left_over() -> None:
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(CASES)
