"""run_stages.py as a process: the parts of a pod end together, and stages follow their head."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omni_operator.children import names
from tests.unit.launcher.contract import FOLDER

SCRIPT = FOLDER / names.SUPERVISOR_FILE


class Pods:
    """Starts supervisors as the containers of pods would, all on this machine's loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def start(self, name: str, *options: str, runs: dict[str, list[str]]) -> subprocess.Popen[str]:
        env = {
            **os.environ,
            "OMNI_TERMINATION_LOG": str(self.folder / f"{name}.last"),
            "OMNI_GRACE_SECONDS": "2",
            "OMNI_READY_SECONDS": "1",
        }
        command = [sys.executable, "-u", str(SCRIPT), "--head=127.0.0.1", f"--port={self.port}", *options]
        command += [f"--run={json.dumps(runs)}"]
        with (self.folder / f"{name}.log").open("w") as log:  # a pipe would be held open by what a kill leaves behind
            process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, text=True)
        self.running.append(process)
        return process

    def reported(self, name: str) -> dict[str, Any]:
        """Code and fields of a pod's termination message; empty when there is none."""
        path = self.folder / f"{name}.last"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"omni": 1}
        assert found.pop("omni") == 1
        return found

    def wait(self, test: Callable[[], Any], seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while not test():
            assert time.monotonic() < until
            time.sleep(0.05)

    def close(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(timeout=20)


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    made = Pods(tmp_path)
    yield made
    made.close()


def exit_of(process: str, code: int) -> dict[str, Any]:
    return {"code": "ProcessEnded", "process": process, "exit_code": code, "signal": None}


def sleeper(mark: Path) -> list[str]:
    """A stage that writes where its head is and then runs."""
    text = f"import sys, time, pathlib; pathlib.Path({str(mark)!r}).write_text(sys.argv[1]); time.sleep(60)"
    return [sys.executable, "-c", text, "{head}"]


def stubborn(mark: Path) -> list[str]:
    """A stage that ignores SIGTERM, and marks when it does."""
    text = (
        "import signal, time, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(mark)!r}).write_text(''); time.sleep(60)"
    )
    return [sys.executable, "-c", text]


def test_one_end_ends_all_and_says_which(pods: Pods) -> None:
    ends = [sys.executable, "-c", "import sys; sys.exit(3)"]
    process = pods.start("a", "--announce", runs={"ray start": ["sleep", "60"], "stage 2": ends})
    process.wait(timeout=20)
    assert process.returncode == 1
    assert pods.reported("a") == exit_of("stage 2", 3)
    assert "starting stage 2" in (pods.folder / "a.log").read_text()


def test_a_command_that_does_not_exist_is_named(pods: Pods) -> None:
    process = pods.start("a", "--announce", runs={"stage 0": ["no-such-engine", "serve"]})
    process.wait(timeout=20)
    assert process.returncode == 1
    detail = "No such file or directory"
    assert pods.reported("a") == {
        "code": "CannotStart", "process": "stage 0", "command": "no-such-engine", "detail": detail,
    }  # fmt: skip


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 3, "37")])
def test_a_signal_that_ends_a_process_is_reported(pods: Pods, number: int, name: str) -> None:
    ends = [sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(number)})"]
    process = pods.start("a", "--announce", runs={"stage 2": ends})
    process.wait(timeout=20)
    assert pods.reported("a") == {"code": "ProcessEnded", "process": "stage 2", "exit_code": None, "signal": name}


def test_a_signal_ends_all_and_is_no_error(pods: Pods, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process = pods.start("a", "--announce", runs={"stage 1": sleeper(mark)})
    pods.wait(mark.exists)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    assert process.returncode == 0
    assert pods.reported("a") == {}


def test_a_process_that_ignores_the_signal_is_killed(pods: Pods, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process = pods.start("a", "--announce", runs={"stage 1": stubborn(mark)})
    pods.wait(mark.exists)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    process.wait(timeout=20)
    assert 1.5 < time.monotonic() - begun < 10


def test_stages_wait_for_their_head_and_get_its_address(pods: Pods, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pods.start("stage", runs={"stage 1": sleeper(mark)})
    time.sleep(1)
    assert not mark.exists()
    pods.start("head", "--announce", runs={"stage 0": ["sleep", "60"]})
    pods.wait(mark.exists)
    pods.wait(lambda: mark.read_text() == "127.0.0.1")


def test_a_head_that_is_ending_takes_no_stages(pods: Pods, tmp_path: Path) -> None:
    """A head still runs in its grace period; a stage that joined it would have to restart."""
    old, new = tmp_path / "old", tmp_path / "new"
    head = pods.start("head", "--announce", runs={"stage 0": stubborn(old)})
    pods.wait(old.exists)
    pods.start("stage", runs={"stage 1": sleeper(new)})
    time.sleep(1)  # it has read this head's generation, and asks once more
    head.send_signal(signal.SIGTERM)
    head.wait(timeout=20)
    time.sleep(3)
    assert not new.exists()
    pods.start("head", "--announce", runs={"stage 0": ["sleep", "60"]})
    pods.wait(new.exists)
    assert pods.reported("stage") == {}


def test_of_pods_that_run_a_stage_together_the_first_runs_it(pods: Pods, tmp_path: Path) -> None:
    runs = {name: sleeper(tmp_path / name) for name in ("ray start", "stage 1")}
    pods.start("head", "--announce", runs={"stage 0": ["sleep", "60"]})
    pods.start("second", "--first-host=1", runs=runs)
    pods.wait((tmp_path / "ray start").exists)
    time.sleep(1)
    assert not (tmp_path / "stage 1").exists()
    pods.start("first", "--first-host=0", runs=runs)
    pods.wait((tmp_path / "stage 1").exists)


def flaky(mark: Path, *, fails: int, code: int = 1) -> list[str]:
    """A `ray start` that fails so many times and then runs; it writes a line for each start."""
    text = (
        f"import sys, time, pathlib; mark = pathlib.Path({str(mark)!r}); log = mark.open('a'); log.write('x\\n'); "
        f"log.close(); sys.exit({code}) if len(mark.read_text().split()) <= {fails} else time.sleep(60)"
    )
    return [sys.executable, "-c", text]


def test_a_ray_node_that_does_not_come_up_is_started_once_more_and_its_stage_stays(pods: Pods, tmp_path: Path) -> None:
    tries, mark = tmp_path / "tries", tmp_path / "mark"
    pods.start("head", "--announce", runs={"stage 0": ["sleep", "60"]})
    stage = pods.start("stage", runs={"ray start": flaky(tries, fails=2), "stage 1": sleeper(mark)})
    pods.wait(lambda: tries.exists() and len(tries.read_text().split()) == 3)
    time.sleep(1)
    assert stage.poll() is None
    log = (pods.folder / "stage.log").read_text()
    assert log.count("starting stage 1") == 1
    assert "ray start ended (exit code 1) within 180 s of its start, and is started once more" in log


def test_a_ray_node_that_never_comes_up_ends_all(pods: Pods, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    pods.start("head", "--announce", runs={"stage 0": ["sleep", "60"]})
    stage = pods.start("stage", runs={"ray start": flaky(tries, fails=99), "stage 1": ["sleep", "60"]})
    stage.wait(timeout=40)
    assert stage.returncode == 1
    assert len(tries.read_text().split()) == 4
    assert pods.reported("stage") == exit_of("ray start", 1)


def test_a_stage_that_ends_while_ray_is_started_once_more_is_noticed(pods: Pods, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    ends = [sys.executable, "-c", "import time, sys; time.sleep(1.5); sys.exit(3)"]
    pods.start("head", "--announce", runs={"stage 0": ["sleep", "60"]})
    stage = pods.start("stage", runs={"ray start": flaky(tries, fails=1), "stage 1": ends})
    stage.wait(timeout=30)
    assert pods.reported("stage") == exit_of("stage 1", 3)


def head_of(port: int) -> list[str]:
    """A head whose server will listen on a port, as an engine's does once it is ready."""
    return [sys.executable, "-c", "import time; time.sleep(60)", "--port", str(port)]


def test_a_head_that_initialises_ends_with_a_stage_that_had_joined(pods: Pods, tmp_path: Path) -> None:
    """Otherwise it waits until --stage-init-timeout.

    The stage's successor registers as another replica (verified with 0.30).
    """
    mark = tmp_path / "mark"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    head = pods.start("head", "--announce", runs={"stage 0": head_of(port)})
    stage = pods.start("stage", runs={"stage 1": sleeper(mark)})
    pods.wait(mark.exists)
    stage.kill()
    head.wait(timeout=20)
    assert head.returncode == 1
    assert pods.reported("head") == {"code": "PeerLost", "address": "127.0.0.1"}


def test_a_head_that_serves_does_not_end_with_a_lost_stage(pods: Pods, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with socket.create_server(("127.0.0.1", 0)) as serving:
        head = pods.start("head", "--announce", runs={"stage 0": head_of(serving.getsockname()[1])})
        stage = pods.start("stage", runs={"stage 1": sleeper(mark)})
        pods.wait(mark.exists)
        stage.kill()  # more than OMNI_READY_SECONDS after the port was served: a stage joins after 4 s
        pods.wait(lambda: "the stages at 127.0.0.1 have ended" in (pods.folder / "head.log").read_text())
        time.sleep(1)
        assert head.poll() is None


def test_who_only_asks_ends_no_head(pods: Pods, tmp_path: Path) -> None:
    """Followers poll every two seconds.

    A connection that is reset, or stays a while and sends nothing, has not joined either.
    """
    mark = tmp_path / "mark"
    head = pods.start("head", "--announce", runs={"stage 0": sleeper(mark)})
    pods.wait(mark.exists)
    for linger in (False, True):
        with socket.create_connection(("127.0.0.1", pods.port), timeout=5) as asker:
            assert len(asker.recv(64)) == 32
            if linger:  # closing resets it
                asker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(1)
    assert head.poll() is None
    with socket.create_connection(("127.0.0.1", pods.port), timeout=5) as joiner:
        joiner.recv(64)
        joiner.sendall(b"1")
        time.sleep(1)
        assert head.poll() is None
    head.wait(timeout=20)
    assert pods.reported("head")["code"] == "PeerLost"


def test_a_stage_leaves_its_head_before_its_processes_had_their_time_to_end(pods: Pods, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    head = pods.start("head", "--announce", runs={"stage 0": ["sleep", "60"]})
    stage = pods.start("stage", runs={"stage 1": stubborn(mark)})
    pods.wait(mark.exists)
    stage.terminate()
    head.wait(timeout=20)
    assert stage.poll() is None
    assert pods.reported("head")["code"] == "PeerLost"


def test_a_head_that_starts_anew_ends_its_stages(pods: Pods, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    head = pods.start("head", "--announce", runs={"stage 0": ["sleep", "60"]})
    stage = pods.start("stage", runs={"stage 1": sleeper(mark)})
    pods.wait(mark.exists)
    head.kill()
    head.wait()
    pods.start("head", "--announce", runs={"stage 0": ["sleep", "60"]})
    stage.wait(timeout=20)
    assert stage.returncode == 1
    assert pods.reported("stage") == {"code": "HeadRestarted", "address": "127.0.0.1"}


def test_a_head_that_does_not_answer_for_a_moment_ends_nothing(pods: Pods, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    head = pods.start("head", "--announce", runs={"stage 0": ["sleep", "60"]})
    stage = pods.start("stage", runs={"stage 1": sleeper(mark)})
    pods.wait(mark.exists)
    head.send_signal(signal.SIGSTOP)
    time.sleep(3)
    head.send_signal(signal.SIGCONT)
    time.sleep(3)
    assert stage.poll() is None
    assert head.poll() is None
