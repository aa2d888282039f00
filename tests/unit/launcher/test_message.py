"""The termination message: one line of valid JSON that fits and keeps the contract."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import omni_operator
from tests.unit.launcher.contract import FOLDER, PROGRAMS, message, written

CODES: dict[str, tuple[str, ...]] = message.CODES
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=50)
    | st.text(max_size=100)
    | st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=5), st.integers(0, 9000))
)


@given(code=st.sampled_from(sorted(CODES)), values=st.lists(VALUES, min_size=4, max_size=4))
def test_whatever_is_reported_is_one_line_of_valid_json_that_fits(code: str, values: list[Any]) -> None:
    fields = dict(zip(CODES[code], values, strict=False))
    text = message.encode(code, fields)
    assert len(text.encode()) <= 4000
    assert "\n" not in text
    found = json.loads(text, parse_constant=pytest.fail)
    assert found.keys() == {"omni", "code", *fields}
    assert (found["omni"], found["code"]) == (1, code)
    for name, value in fields.items():
        if isinstance(value, (bool, type(None))):
            assert found[name] is value


@given(fields=st.dictionaries(st.text("abc_é", min_size=1, max_size=300), VALUES, max_size=30))
def test_fields_of_any_name_and_number_leave_a_message_that_fits(fields: dict[str, Any]) -> None:
    text = message.encode("StageLost", fields)
    assert len(text.encode()) <= 4000
    assert json.loads(text)["code"] == "StageLost"


def test_a_text_that_fits_is_kept_as_it_is() -> None:
    detail = 'two lines\nand "quotes", \N{SNOWMAN}'
    assert json.loads(message.encode("RayHeadLost", {"address": "a", "detail": detail}))["detail"] == detail


def test_a_long_text_keeps_its_beginning_and_more_of_its_end() -> None:
    text = message.encode("RayHeadLost", {"address": "10.0.0.7:6379", "detail": f"begin{'x' * 50_000}end"})
    found = json.loads(text)
    assert 3990 < len(text.encode()) <= 4000
    assert found["address"] == "10.0.0.7:6379"
    assert found["detail"].startswith("begin")
    assert found["detail"].endswith("end")
    begin, end = found["detail"].split(" ... ")
    assert len(begin) < len(end)


@pytest.mark.parametrize(
    "value",
    [10**5000, float("inf"), float("nan"), "\ud800", ["a"], Path("/x"), b"\xff"],
    ids=lambda value: type(value).__name__,
)
def test_what_json_or_utf8_does_not_have_becomes_text(value: Any) -> None:
    found = json.loads(message.encode("RayHeadLost", {"address": value, "detail": "d"}), parse_constant=pytest.fail)
    assert isinstance(found["address"], str)
    assert found["detail"] == "d"


def test_a_field_does_not_hide_the_code() -> None:
    found = json.loads(message.encode("HeadGone", {"omni": 7, "code": "other", "address": "a"}))
    assert found == {"omni": 1, "code": "HeadGone", "address": "a"}


def test_a_log_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(message, "TERMINATION_LOG", "/no/such/folder/log")
    message.report("HeadGone", address="10.0.0.7")
    out = capsys.readouterr().out
    assert 'omni: {"omni": 1, "code": "HeadGone", "address": "10.0.0.7"}' in out
    assert "/no/such/folder/log cannot be written" in out


def test_a_log_in_another_encoding_keeps_no_message_back(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    text = (
        f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import message; "
        "message.report('HeadGone', address='\N{SNOWMAN}')"
    )
    environment = {"OMNI_TERMINATION_LOG": str(log), "PYTHONIOENCODING": "ascii"}
    subprocess.run([sys.executable, "-c", text], env=environment, timeout=60, check=True)
    assert json.loads(log.read_text(encoding="utf-8"))["address"] == "\N{SNOWMAN}"


def test_the_programs_write_every_code_of_the_contract_with_its_fields() -> None:
    found: dict[str, set[tuple[str, ...]]] = {}
    for _, code, fields in written():
        found.setdefault(code, set()).add(fields)
    assert found == {code: {fields} for code, fields in CODES.items()}


def test_the_readme_has_every_code_with_its_programs_and_fields() -> None:
    rows = [row.split("|") for row in (FOLDER / "README.md").read_text().splitlines() if row.startswith("| `")]
    described = {row[1].strip(" `"): (row[2].strip(), row[3]) for row in rows}
    assert list(described) == list(CODES)
    for code, fields in CODES.items():
        programs = {program for program, each, _ in written() if each == code}
        assert described[code][0] in {"all", *(f"`{program}`" for program in programs)}
        assert [name for name in fields if f"`{name}`" not in described[code][1]] == [], code


@pytest.mark.parametrize("path", [*PROGRAMS, FOLDER / "message.py", FOLDER / "__init__.py"], ids=lambda path: path.name)
def test_the_launcher_needs_nothing_but_an_old_python(path: Path) -> None:
    """It runs in the engine's image, whose packages are not ours."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {
        f"{'.' * node.level}{node.module or ''}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names | {"message"}
    assert "message" not in sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Match)]


def test_nothing_of_the_operator_imports_the_launcher() -> None:
    root = FOLDER.parent
    importing = []
    for path in root.rglob("*.py"):
        if FOLDER in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if any("launcher" in f"{module}.{name}".split(".") for name in names):
                importing.append(str(path.relative_to(root)))
    assert importing == []


def test_rendering_does_not_import_the_launcher_either() -> None:
    text = (
        "import sys\n"
        "from omni_operator.controller.runtime import app\n"
        "from omni_operator.children import config_map\n"
        "from tests.unit.golden_cases import CASES\n"
        "from tests.unit.make import OWNER\n"
        "data = config_map.build(OWNER, next(iter(CASES.values())).revision())['data']\n"
        "assert 'message.py' in data\n"
        "sys.exit(any('launcher' in name.split('.') for name in sys.modules))\n"
    )
    root = Path(omni_operator.__file__).parent.parent
    environment = {"PYTHONPATH": f"{root}:{root.parent}"}
    done = subprocess.run([sys.executable, "-c", text], env=environment, timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_a_program_finds_its_message_module(path: Path, option: str, tmp_path: Path) -> None:
    """A link in a folder of links, as in a ConfigMap's volume, with PYTHONSAFEPATH set."""
    data = tmp_path / "..2026_12_01"
    data.mkdir()
    (tmp_path / "..data").symlink_to(data.name)
    for name in (path.name, "message.py"):
        (data / name).write_text((FOLDER / name).read_text())
        (tmp_path / name).symlink_to(f"..data/{name}")
    command = [sys.executable, option, str(tmp_path / path.name), "--help"]
    for environment in ({}, {"PYTHONSAFEPATH": "1"}):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
