"""The image check as a process: it becomes the command in an image that is as planned, and else says what differs and what to set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omni_operator.api.spec import Connector
from omni_operator.children import command, names
from omni_operator.children.revision import new_revision
from tests.unit import make
from tests.unit.make import OWNER, inventory, node

SCRIPT = Path(names.__file__).parent / "scripts" / names.IMAGE_CHECK_FILE
RUN = [sys.executable, "-c", "import sys; print('engine runs'); sys.exit(7)"]


def run(image: Path, *options: str, command: list[str] | None = None) -> tuple[int, str, str]:
    """Exit code, what was printed, and the termination message; `image` is all the packages there are."""
    log = image / "termination-log"
    # -S -I: none of the packages of this environment
    start = f"import sys, runpy; sys.path.append({str(image)!r}); sys.argv = sys.argv[1:]; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", start, str(SCRIPT), *options, "--", *(command or RUN)],
        env={"OMNI_TERMINATION_LOG": str(log)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout, log.read_text() if log.exists() else ""


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
    assert run(image, "--vllm-omni=0.30.0") == (7, "engine runs\n", "")


def test_another_release_is_named_with_what_to_set(image: Path) -> None:
    code, said, last = run(image, "--vllm-omni=0.16.0")
    assert code == 1
    assert "engine runs" not in said
    assert last == (
        "EngineImageMismatch: the engine image has vllm-omni 0.30.1, but engine.version is 0.16.0, by which flags, configuration and "
        "connectors were chosen; set engine.version to 0.30.1, or engine.image to one with vllm-omni 0.16"
    )


@pytest.mark.parametrize("version", ["", "0.16.1.dev200+g1a2b3c4", "0.1.dev1+gabcdef0", "dev"])
def test_an_image_whose_version_tells_no_release_is_believed(tmp_path: Path, version: str) -> None:
    if version:
        install(tmp_path, "vllm_omni", version)
    code, said, last = run(tmp_path, "--vllm-omni=0.30.0")
    assert (code, last) == (7, "")
    assert "tells no release, so it is not compared" in said


def test_a_check_that_fails_keeps_nothing_from_starting(image: Path) -> None:
    install(image, "vllm_omni", "0.30.1", text=b"\xff\xfe")
    broken = image / "other-1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_bytes(b"Name: \xff\xfe\n")
    assert run(image, "--vllm-omni=0.30.0", "--mooncake")[0] == 7


@pytest.mark.parametrize(
    ("name", "version", "options", "wanted"),
    [
        ("mooncake_transfer_engine", "0.3.12.post1", ("--mooncake-from=0.3.12", "--mooncake-below=0.3.13"), ""),
        ("mooncake_transfer_engine_non_cuda", "0.3.11.post1", ("--mooncake-below=0.3.13",), ""),
        ("mooncake_transfer_engine_cuda13", "0.3.11.post1", ("--mooncake-from=0.3.12",), "0.3.12 or later"),
        ("mooncake_transfer_engine", "0.3.13.post1", ("--mooncake-below=0.3.13",), "one before 0.3.13"),
        ("mooncake_transfer_engine", "0.4.0", (), ""),
    ],
)
def test_mooncake_is_compared_with_what_the_connectors_need(
    image: Path, name: str, version: str, options: tuple[str, ...], wanted: str
) -> None:
    install(image, name, version)
    code, _, last = run(image, "--vllm-omni=0.30.0", "--mooncake", *options)
    if not wanted:
        assert (code, last) == (7, "")
        return
    assert code == 1
    assert f"has Mooncake {version}, and the plan relies on {wanted}" in last
    assert f"set engine.mooncakeVersion to {version}" in last


def test_two_mooncakes_share_a_folder_and_tell_nothing(image: Path) -> None:
    install(image, "mooncake_transfer_engine", "0.3.8")
    install(image, "mooncake_transfer_engine_cuda13", "0.3.12.post1")
    code, said, _ = run(image, "--vllm-omni=0.30.0", "--mooncake", "--mooncake-from=0.3.12")
    assert code == 7
    assert "Mooncake is 0.3.12.post1 and 0.3.8, so it is not compared" in said


def test_an_image_without_mooncake(image: Path) -> None:
    assert run(image, "--vllm-omni=0.30.0", "--mooncake")[0] == 7, "another Python may have both"
    (image / "vllm_omni").mkdir()
    code, _, last = run(image, "--vllm-omni=0.30.0", "--mooncake")
    assert code == 1
    assert last.startswith("EngineImageMismatch: the engine image has no Mooncake")
    (image / "mooncake").mkdir()  # built from sources
    assert run(image, "--vllm-omni=0.30.0", "--mooncake")[0] == 7


def test_a_command_that_is_not_there(image: Path) -> None:
    code, _, last = run(image, "--vllm-omni=0.30.0", command=["/no/such/engine"])
    assert code == 1
    assert "cannot run `/no/such/engine`" in last


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
def test_the_server_is_told_what_its_plan_needs(connector: str) -> None:
    parts, options = CASES[connector]
    nodes = inventory(node("a", 4)) if connector == "SharedMemory" else inventory(*(node(n, 1) for n in "abc"))
    spec = make.spec(**parts)
    plan = make.planned(spec, nodes)
    assert {edge.connector for edge in plan.edges} == {Connector(connector.partition(" ")[0])}
    words = command.serving_command(OWNER, new_revision(spec=spec, plan=plan), 0)
    start = ["python3", f"{names.CONFIG_DIR}/check_image.py", f"--vllm-omni={spec.engine.version}"]
    assert words[: words.index("--") + 1] == [*start, *options, "--"]
