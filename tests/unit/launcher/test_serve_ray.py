"""serve_ray.py as a process: it runs the engine while its stages live, or reports the cause."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.launcher.fake_ray import FakeRay, dead_actor, job, listing, ray_node

# As Ray 2.53.0 writes it to stderr; the lines above it are its logger's, coloured even
# without a terminal.
MISMATCH = """\x1b[36m2026-11-24 16:01:02,003\x1b[39m INFO scripts.py:1100 -- Local node IP: 192.0.2.2
Traceback (most recent call last):
  File "/opt/venv/bin/ray", line 8, in <module>
    sys.exit(main())
RuntimeError: Version mismatch: The cluster was started with:
    Ray: 2.53.0
    Python: 3.11.2
This process on node 192.0.2.2 was started with:
    Ray: 2.52.1
    Python: 3.12.4

"""
WRONG_TOKEN = (
    "ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: Authentication token is missing or incorrect. "
    "Note: RAY_AUTH_MODE is currently 'disabled' (not 'token').\n"
)


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[FakeRay]:
    fake = FakeRay(tmp_path)
    yield fake
    fake.close()


def test_it_runs_the_engine_and_ends_as_it_does(ray: FakeRay) -> None:
    with subprocess.Popen(ray.command(fast=False), env=ray.environment(), stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 7
    assert ray.read("served") == "serve --omni\n"
    assert ray.calls == [
        f"start --address={ray.gcs_address} --num-cpus=0 --num-gpus=0 --object-store-memory=1000 --disable-usage-stats"
    ]
    assert ray.reported == {}
    assert "omni: Ray has 3 accelerators on 3 nodes, 3 needed" in out
    assert "session_2026" in out


def test_it_waits_for_accelerators_and_says_so(ray: FakeRay) -> None:
    ray.nodes = [listing(ray_node(None)), listing(ray_node(None), ray_node(2)), *ray.nodes]
    done = ray.run()
    assert done.returncode == 7
    assert "waiting for 3 accelerators in Ray (0 s of 20 s): Ray has 0 on 1 nodes" in done.stdout
    assert "Ray has 2 on 2 nodes" in done.stdout


def test_dead_nodes_have_no_accelerators(ray: FakeRay) -> None:
    ray.nodes = [listing(ray_node(2), ray_node(1, state="DEAD"))]
    assert ray.run(wait_seconds=0.2).returncode == 1
    assert ray.reported == {"code": "RayResourcesMissing", "needed": 3, "found": 2, "nodes": 1, "seconds": 0.2}
    assert ray.calls == []


def test_a_head_that_cannot_be_reached(ray: FakeRay) -> None:
    ray.gcs.close()
    address, begun = ray.gcs_address, time.monotonic()
    done = ray.run(wait_seconds=1)
    assert done.returncode == 1
    detail = ray.reported["detail"]
    assert ray.reported == {
        "code": "RayUnreachable", "what": "head", "address": address, "seconds": 1.0, "detail": detail,
    }  # fmt: skip
    assert "Connection refused" in detail
    assert time.monotonic() - begun < 20
    assert ray.paths == []  # nobody asks a dashboard whose head is not there
    assert done.stdout.count(f"waiting for the Ray head at {address}") > 1


def test_a_name_that_does_not_resolve_yet_is_waited_for(ray: FakeRay) -> None:
    done = ray.run(ray_address="head-svc.invalid:6399", wait_seconds=0.2)
    assert done.returncode == 1
    assert (ray.reported["code"], ray.reported["what"]) == ("RayUnreachable", "head")
    assert ray.reported["address"] == "head-svc.invalid:6399"


def test_a_dashboard_that_does_not_listen(ray: FakeRay) -> None:
    assert ray.run(dashboard="http://127.0.0.1:1", wait_seconds=0.2).returncode == 1
    assert (ray.reported["code"], ray.reported["what"]) == ("RayUnreachable", "dashboard")
    assert ray.reported["address"] == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "answer",
    [(500, b"starting"), (404, b""), (200, b"not json"), (0, b"NOT HTTP AT ALL\r\n\r\n"), (0, b"")],
    ids=["500", "404", "no json", "no http", "closed"],
)
@pytest.mark.parametrize("which", ["version", "nodes"])
def test_a_dashboard_that_is_not_ready_is_waited_for(ray: FakeRay, which: str, answer: tuple[int, bytes]) -> None:
    getattr(ray, which).insert(0, answer)
    done = ray.run()
    assert done.returncode == 7, done.stderr
    assert "waiting for the Ray dashboard" in done.stdout


def test_a_list_of_nodes_without_nodes_is_waited_for(ray: FakeRay) -> None:
    ray.nodes.insert(0, (200, b'{"result": false, "data": null}'))
    assert ray.run().returncode == 7


def test_a_list_of_nodes_that_never_comes(ray: FakeRay) -> None:
    ray.nodes = [(500, b"starting")]
    assert ray.run(wait_seconds=0.2).returncode == 1
    assert (ray.reported["code"], ray.reported["what"]) == ("RayUnreachable", "nodes")
    assert "HTTP Error 500" in ray.reported["detail"]


def test_another_version_on_the_head_is_final(ray: FakeRay) -> None:
    ray.version = [(200, b'{"ray_version": "2.52.1"}')]
    assert ray.run(wait_seconds=600).returncode == 1
    assert ray.reported == {
        "code": "RayVersionMismatch",
        "found": "2.53.0",
        "found_python": None,
        "cluster": "2.52.1",
        "cluster_python": None,
    }
    assert ray.calls == []


def test_a_mismatch_that_ray_start_finds_is_final(ray: FakeRay) -> None:
    """Python's version is in no answer of the dashboard."""
    ray.refuse_start(MISMATCH)
    assert ray.run(wait_seconds=600).returncode == 1
    assert ray.reported == {
        "code": "RayVersionMismatch",
        "found": "2.52.1",
        "found_python": "3.12.4",
        "cluster": "2.53.0",
        "cluster_python": "3.11.2",
    }
    assert len(ray.calls) == 1


@pytest.mark.parametrize("expected", ["2.53.0", ">=2.53.0", ">=2.9.0"])
def test_the_ray_of_the_spec_is_good(ray: FakeRay, expected: str) -> None:
    assert ray.run(expected_ray=expected).returncode == 7


@pytest.mark.parametrize(
    ("given", "expected", "at_least"),
    [("2.52.1", "2.52.1", False), ("2.54.0", "2.54.0", False), (">=2.54.0", "2.54.0", True)],
)
def test_another_ray_than_the_spec_says_is_final(ray: FakeRay, given: str, expected: str, at_least: bool) -> None:
    assert ray.run(wait_seconds=600, expected_ray=given).returncode == 1
    assert ray.reported == {
        "code": "RayVersionUnexpected", "found": "2.53.0", "expected": expected, "at_least": at_least,
    }  # fmt: skip
    assert ray.paths == []  # the head of that image may never be ready


def test_an_image_without_ray_says_so(ray: FakeRay) -> None:
    command = ray.command(wait_seconds=600)
    command.insert(1, "-S")  # without the packages of this Python
    subprocess.run(command, env=ray.environment(PYTHONPATH=""), timeout=60, check=False)
    assert ray.reported == {"code": "RayMissing", "python": sys.executable}


@pytest.mark.parametrize("missing", ["ray", "engine"])
def test_an_image_without_a_program_says_which(ray: FakeRay, missing: str) -> None:
    (ray.folder / missing).unlink()
    assert ray.run(wait_seconds=600, env={"PATH": f"{ray.folder}:/usr/bin:/bin"}).returncode == 1
    detail = "No such file or directory"
    assert ray.reported == {"code": "CannotStart", "process": "", "command": missing, "detail": detail}


def test_a_proxy_of_the_engine_is_not_asked(ray: FakeRay, tmp_path: Path) -> None:
    """It would get Ray's token, and its 403 would be taken for the dashboard's."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    proxy = FakeRay(folder)
    proxy.nodes = [(403, b"no")]
    address = f"http://127.0.0.1:{proxy.dashboard.server_address[1]}"
    done = ray.run(env={"HTTP_PROXY": address, "http_proxy": address, "RAY_AUTH_TOKEN": "s3cret"})
    proxy.close()
    assert proxy.paths == []
    assert done.returncode == 7, ray.reported
    assert set(ray.headers) == {"Bearer s3cret"}


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_token_is_final(ray: FakeRay, code: int) -> None:
    ray.version = [(code, b"Unauthorized: Missing authentication token")]
    assert ray.run(wait_seconds=600).returncode == 1
    assert ray.reported == {
        "code": "RayTokenRefused",
        "address": f"http://127.0.0.1:{ray.dashboard.server_address[1]}",
        "status": code,
        "detail": "Unauthorized: Missing authentication token",
    }


def test_the_token_is_sent_with_every_question(ray: FakeRay) -> None:
    assert ray.run(env={"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "s3cret"}).returncode == 7
    assert len(ray.headers) >= 2
    assert set(ray.headers) == {"Bearer s3cret"}


def test_without_a_token_no_header_is_sent(ray: FakeRay) -> None:
    assert ray.run().returncode == 7
    assert set(ray.headers) == {None}


def test_a_ray_start_that_fails_otherwise_is_tried_again(ray: FakeRay) -> None:
    ray.refuse_start("raylet died\n", "raylet died again\n")
    done = ray.run()
    assert done.returncode == 7
    assert len(ray.calls) == 3
    assert "raylet died again" in done.stderr


def test_a_ray_start_that_always_fails_is_reported_with_its_last_lines(ray: FakeRay) -> None:
    ray.refuse_start(*["noise\n" * 50 + WRONG_TOKEN] * 200)
    assert ray.run(wait_seconds=0.5).returncode == 1
    detail = ray.reported["detail"]
    assert ray.reported == {"code": "RayStartFailed", "exit_code": 1, "seconds": 0.5, "detail": detail}
    assert "RAY_AUTH_MODE is currently 'disabled'" in detail
    assert detail.count("noise") == 4


def test_a_report_fits_the_termination_message(ray: FakeRay) -> None:
    ray.refuse_start(*["\N{SNOWMAN}" * 9000] * 200)
    assert ray.run(wait_seconds=0.2).returncode == 1
    assert ray.reported["code"] == "RayStartFailed"
    assert 3900 < len(ray.read("termination-log").encode()) <= 4000


def test_many_nodes_are_asked_for(ray: FakeRay) -> None:
    ray.run()
    assert "/api/v0/nodes?limit=1000" in ray.paths  # the default is 100


def test_a_signal_is_the_engines(ray: FakeRay) -> None:
    environment = ray.environment(FAKE_SECONDS="60")
    with subprocess.Popen(ray.command(), env=environment, stdout=subprocess.PIPE) as process:
        while not ray.read("served"):
            time.sleep(0.05)
        time.sleep(0.5)  # the launcher's handler follows the engine's start
        process.terminate()
        assert process.wait(timeout=30) == 3
    assert ray.read("served").endswith("told\n")
    assert ray.reported == {}


def test_an_engine_that_was_told_to_end_loses_no_stage(ray: FakeRay) -> None:
    """It kills its actors itself then."""
    ray.jobs = [(200, json.dumps([job()]).encode())]
    environment = ray.environment(FAKE_SECONDS="2", FAKE_DEAF="yes")
    with subprocess.Popen(ray.command(), env=environment, stdout=subprocess.PIPE) as process:
        while not ray.read("served"):
            time.sleep(0.05)
        time.sleep(0.5)
        process.terminate()
        time.sleep(0.1)
        ray.actors = [listing(dead_actor())]
        assert process.wait(timeout=30) == 7
    assert ray.reported == {}


def test_a_long_cause_keeps_its_end(ray: FakeRay) -> None:
    ray.jobs = [(200, json.dumps([job()]).encode())]
    ray.actors = [listing(dead_actor(error_message="raised in its creation task" + "x" * 5000 + "MemoryError"))]
    assert ray.run(env={"FAKE_SECONDS": "60"}).returncode == 1
    assert ray.reported["detail"].startswith("raised in its creation task")
    assert ray.reported["detail"].endswith("MemoryError")
    assert len(ray.reported["detail"]) < 700


def test_a_signal_while_it_waits_ends_it(ray: FakeRay) -> None:
    ray.nodes = [listing()]
    with subprocess.Popen(ray.command(), env=ray.environment(), stdout=subprocess.PIPE) as process:
        while not ray.paths:
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=10) == 143


@pytest.mark.parametrize("deaf", ["", "yes"])
def test_a_stage_that_ended_ends_the_server_and_is_reported(ray: FakeRay, deaf: str) -> None:
    ray.jobs = [(200, json.dumps([job()]).encode())]
    ray.actors = [listing(), (500, b"busy"), (200, b"nonsense"), listing(dead_actor())]
    done = ray.run(env={"FAKE_SECONDS": "60", "FAKE_DEAF": deaf})
    assert done.returncode == 1
    detail = "The actor is dead because its worker process has died."
    assert ray.reported == {
        "code": "StageLost", "actor": "OmniStage", "pid": 3533, "address": "10.0.0.7", "detail": detail,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("driver", "actor"),
    [
        (job(address="10.0.0.9"), dead_actor()),
        (job(status="FAILED"), dead_actor()),
        (job(), dead_actor(job="02000000")),
        (job(), dead_actor(reason="RAY_KILL")),
        ({"type": "SUBMISSION", "status": "RUNNING", "job_id": None, "driver_info": None}, dead_actor()),
    ],
    ids=["another server's", "an earlier start's", "another job's", "one that was asked to end", "a submission"],
)
def test_other_dead_actors_are_none_of_its_business(
    ray: FakeRay, driver: dict[str, Any], actor: dict[str, Any]
) -> None:
    ray.jobs, ray.actors = [(200, json.dumps([driver]).encode())], [listing(actor)]
    done = ray.run(env={"FAKE_SECONDS": "1"})
    assert done.returncode == 7
    assert any(path.startswith("/api/v0/actors") for path in ray.paths)
    assert ray.reported == {}
