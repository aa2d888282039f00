"""check_image.py as a process: it becomes the command, or reports how the image differs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omni_operator.api.spec import Connector
from omni_operator.children import command, names
from omni_operator.children.revision import new_revision
from tests.unit import make
from tests.unit.launcher.contract import FOLDER
from tests.unit.make import OWNER, inventory, node

SCRIPT = FOLDER / names.IMAGE_CHECK_FILE
RUN = [sys.executable, "-c", "import sys; print('engine runs'); sys.exit(7)"]


def run(image: Path, *options: str, command: list[str] | None = None) -> tuple[int, str, dict[str, Any]]:
    """Exit code, output, and code and fields of the termination message.

    `image` has the only packages.
    """
    log = image / "termination-log"
    # -S -I: none of the packages of this environment
    start = (
        f"import sys, runpy; sys.path.append({str(image)!r}); sys.argv = sys.argv[1:]; "
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", start, str(SCRIPT), *options, "--", *(command or RUN)],
        env={"OMNI_TERMINATION_LOG": str(log)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    report = json.loads(log.read_text()) if log.exists() else {"omni": 1}
    assert report.pop("omni") == 1
    return done.returncode, done.stdout, report


@pytest.fixture
def image(tmp_path: Path) -> Path:
    install(tmp_path, "vllm_omni", "0.30.1")
    return tmp_path


def install(image: Path, name: str, version: str, *, text: bytes = b"") -> None:
    info = image / f"{name}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    written = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n".encode()
    (info / "METADATA").write_bytes(text or written)


def test_an_image_of_the_same_release_becomes_the_engine(image: Path) -> None:
    assert run(image, "--vllm-omni=0.30.0") == (7, "engine runs\n", {})


def test_another_release_is_reported_with_both_versions(image: Path) -> None:
    code, printed, report = run(image, "--vllm-omni=0.16.0")
    assert code == 1
    assert "engine runs" not in printed
    assert report == {"code": "EngineReleaseMismatch", "found": "0.30.1", "expected": "0.16.0"}


@pytest.mark.parametrize("version", ["", "0.16.1.dev200+g1a2b3c4", "0.1.dev1+gabcdef0", "dev"])
def test_an_image_whose_version_is_no_release_is_not_compared(tmp_path: Path, version: str) -> None:
    if version:
        install(tmp_path, "vllm_omni", version)
    code, printed, report = run(tmp_path, "--vllm-omni=0.30.0")
    assert (code, report) == (7, {})
    assert "is no release, so it is not compared" in printed


def test_a_check_that_fails_keeps_nothing_from_starting(image: Path) -> None:
    install(image, "vllm_omni", "0.30.1", text=b"\xff\xfe")
    broken = image / "other-1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_bytes(b"Name: \xff\xfe\n")
    assert run(image, "--vllm-omni=0.30.0", "--mooncake")[0] == 7


@pytest.mark.parametrize(
    ("name", "version", "options", "broken"),
    [
        ("mooncake_transfer_engine", "0.3.12.post1", ("--mooncake-from=0.3.12", "--mooncake-below=0.3.13"), None),
        ("mooncake_transfer_engine_non_cuda", "0.3.11.post1", ("--mooncake-below=0.3.13",), None),
        (
            "mooncake_transfer_engine_cuda13",
            "0.3.11.post1",
            ("--mooncake-from=0.3.12",),
            {"least": "0.3.12", "below": ""},
        ),
        ("mooncake_transfer_engine", "0.3.13.post1", ("--mooncake-below=0.3.13",), {"least": "", "below": "0.3.13"}),
        ("mooncake_transfer_engine", "0.4.0", (), None),
    ],
)
def test_mooncake_is_compared_with_what_the_connectors_need(
    image: Path, name: str, version: str, options: tuple[str, ...], broken: dict[str, str] | None
) -> None:
    install(image, name, version)
    code, _, report = run(image, "--vllm-omni=0.30.0", "--mooncake", *options)
    if broken is None:
        assert (code, report) == (7, {})
        return
    assert (code, report) == (1, {"code": "MooncakeVersionMismatch", "found": version, **broken})


def test_two_mooncakes_share_a_folder_and_are_not_compared(image: Path) -> None:
    install(image, "mooncake_transfer_engine", "0.3.8")
    install(image, "mooncake_transfer_engine_cuda13", "0.3.12.post1")
    code, said, _ = run(image, "--vllm-omni=0.30.0", "--mooncake", "--mooncake-from=0.3.12")
    assert code == 7
    assert "Mooncake is 0.3.12.post1 and 0.3.8, so it is not compared" in said


def test_an_image_without_mooncake(image: Path) -> None:
    assert run(image, "--vllm-omni=0.30.0", "--mooncake")[0] == 7, "another Python may have both"
    (image / "vllm_omni").mkdir()
    code, _, report = run(image, "--vllm-omni=0.30.0", "--mooncake")
    assert (code, report) == (1, {"code": "MooncakeMissing"})
    (image / "mooncake").mkdir()  # built from sources
    assert run(image, "--vllm-omni=0.30.0", "--mooncake")[0] == 7


def test_a_command_that_is_not_there(image: Path) -> None:
    code, _, report = run(image, "--vllm-omni=0.30.0", command=["/no/such/engine"])
    detail = "No such file or directory"
    assert (code, report) == (
        1, {"code": "CannotStart", "process": "", "command": "/no/such/engine", "detail": detail},
    )  # fmt: skip


ONES = [{"name": "indextts2_talker", "accelerators": 1}]
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "SharedMemory": ({"engine": {"version": "0.16.0"}}, []),
    "MooncakeStore": (
        {"engine": {"version": "0.30.0", "backend": "Headless"}},
        ["--mooncake", "--mooncake-from=0.3.12", "--mooncake-below=0.3.13"],
    ),
    "MooncakeStore of an old Mooncake": ({"engine": {"version": "0.16.0"}}, ["--mooncake", "--mooncake-below=0.3.13"]),
    "MooncakeTransferEngine": (
        {"engine": {"version": "0.30.0", "backend": "Headless"}, "model": {"pipeline": "indextts2"}, "stages": ONES},
        ["--mooncake", "--mooncake-from=0.3.12"],
    ),
}


@pytest.mark.parametrize("connector", CASES)
def test_the_check_gets_what_the_plan_needs(connector: str) -> None:
    parts, options = CASES[connector]
    nodes = inventory(node("a", 4)) if connector == "SharedMemory" else inventory(*(node(n, 1) for n in "abc"))
    spec = make.spec(**parts)
    plan = make.planned(spec, nodes)
    assert {edge.connector for edge in plan.edges} == {Connector(connector.partition(" ")[0])}
    words = command.serving_command(OWNER, new_revision(spec=spec, plan=plan), 0)
    start = ["python3", f"{names.CONFIG_DIR}/check_image.py", f"--vllm-omni={spec.engine.version}"]
    assert words[: words.index("--") + 1] == [*start, *options, "--"]
