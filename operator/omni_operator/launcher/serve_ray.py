"""Joins this pod to a Ray cluster without resources, then runs the server while its stages live.

vllm-omni waits for its placement group without a time-out and says nothing, and ray.init from a pod
that is no Ray node fails after a minute (vllm-omni 0.16, Ray 2.53). So everything the server needs
from Ray is checked here first, each wait is bounded and logged, and the reason for giving up is
reported in the container's termination message (message.py).

The server does not notice a stage that ends (its /health says 200, and requests hang), nor one that
dies while it starts, for which it would wait until its budget is used up. Ray knows. So its list of
dead actors is read beside the server, which ends with the first.

Only the standard library: it runs in the engine's image, whose packages are not ours.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # which Python leaves out with -I, -P and PYTHONSAFEPATH
import message

POLL_SECONDS = 2.0
WATCH_SECONDS = 5.0
GRACE_SECONDS = 45.0  # vllm-omni's own shutdown takes up to 40; with an actor gone it may take for ever
SAY_SECONDS = 10.0
# A proxy in the environment is for the engine's downloads; it must not get Ray's token.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class GiveUpError(Exception):
    """The server cannot start, or cannot go on; a code and its fields say why (message.py)."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code)
        self.code, self.fields = code, fields


def say(text: str) -> None:
    """A line in the container's log."""
    print(f"omni: {text}", flush=True)


class Deadline:
    """One budget for all waits, and when to log what is waited for."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.start = time.monotonic()
        self.logged = -SAY_SECONDS

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return max(0.0, self.start + self.seconds - time.monotonic())

    def wait(self, what: str, why: str, error: GiveUpError) -> None:
        """Sleeps a little, and logs the reason now and then; raises `error` after the budget."""
        passed = time.monotonic() - self.start
        if passed >= self.seconds:
            raise error
        if passed - self.logged >= SAY_SECONDS:
            say(f"waiting for {what} ({passed:.0f} s of {self.seconds:.0f} s): {why}")
            self.logged = passed
        time.sleep(POLL_SECONDS)


def fetch(url: str) -> Any:
    """JSON of a dashboard address, with the token when Ray wants one."""
    request = urllib.request.Request(url)
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with DIRECT.open(request, timeout=5) as answer:
        return json.load(answer)


def ray_here() -> str:
    """The version of Ray in this image."""
    try:
        return metadata.version("ray")
    except metadata.PackageNotFoundError as exc:
        raise GiveUpError("RayMissing", python=sys.executable) from exc


def check_image(expected: str) -> None:
    """Compares the image's Ray with `expected`, or any from it on when the user set no version.

    KubeRay chooses probes and token authentication by ray.version.
    """
    here = ray_here()
    mine, wanted = ([int(number) for number in re.findall(r"\d+", text)[:3]] for text in (here, expected))
    if mine == wanted or (expected.startswith(">=") and mine > wanted):
        return
    least = expected.startswith(">=")
    raise GiveUpError("RayVersionUnexpected", found=here, expected=expected.removeprefix(">="), at_least=least)


def unreachable(what: str, address: str, detail: str, deadline: Deadline) -> GiveUpError:
    """Something of Ray that did not answer as it should until the budget was used up."""
    return GiveUpError("RayUnreachable", what=what, address=address, seconds=deadline.seconds, detail=detail)


def wait_for_head(address: str, deadline: Deadline) -> None:
    """Until the head's GCS port accepts a connection."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            with socket.create_connection((host, int(port)), timeout=5):
                return
        except OSError as exc:
            deadline.wait(f"the Ray head at {address}", str(exc), unreachable("head", address, str(exc), deadline))


def check_version(dashboard: str, deadline: Deadline) -> str:
    """Compares Ray's version here and on the head; returns the session's name for the log."""
    while True:
        try:
            head = fetch(f"{dashboard}/api/version")
            break
        except urllib.error.HTTPError as exc:
            text = exc.read(200).decode(errors="replace").strip()
            if exc.code in (401, 403):
                raise GiveUpError("RayTokenRefused", address=dashboard, status=exc.code, detail=text) from exc
            why = f"HTTP {exc.code} {text}".strip()
        except (OSError, ValueError, http.client.HTTPException) as exc:
            why = str(exc)
        deadline.wait(f"the Ray dashboard at {dashboard}", why, unreachable("dashboard", dashboard, why, deadline))
    here, there = ray_here(), str(head.get("ray_version"))
    if here != there:
        raise GiveUpError("RayVersionMismatch", found=here, found_python=None, cluster=there, cluster_python=None)
    return str(head.get("session_name", "unknown session"))


def accelerators_in_ray(dashboard: str) -> tuple[int, int]:
    """GPUs of all nodes that are alive, and the number of these nodes.

    Dead nodes stay in Ray's list with their resources.
    """
    answer = fetch(f"{dashboard}/api/v0/nodes?limit=1000")
    nodes = [node for node in answer["data"]["result"]["result"] if node.get("state") == "ALIVE"]
    return int(sum((node.get("resources_total") or {}).get("GPU", 0) for node in nodes)), len(nodes)


def wait_for_accelerators(dashboard: str, needed: int, deadline: Deadline) -> None:
    """Until Ray has as many accelerators as the pipeline has stages."""
    while True:
        try:
            found, nodes = accelerators_in_ray(dashboard)
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as exc:
            error = unreachable("nodes", dashboard, str(exc), deadline)
            deadline.wait("the Ray dashboard's list of nodes", str(exc), error)
            continue
        if found >= needed:
            say(f"Ray has {found} accelerators on {nodes} nodes, {needed} needed")
            return
        missing = GiveUpError("RayResourcesMissing", needed=needed, found=found, nodes=nodes, seconds=deadline.seconds)
        deadline.wait(f"{needed} accelerators in Ray", f"Ray has {found} on {nodes} nodes", missing)


def join(address: str, object_store_bytes: int, deadline: Deadline) -> None:
    """Starts this pod's raylet with no CPU and no GPU.

    A version mismatch is final; anything else is retried.
    """
    command = [
        "ray", "start", f"--address={address}", "--num-cpus=0", "--num-gpus=0",
        f"--object-store-memory={object_store_bytes}", "--disable-usage-stats",
    ]  # fmt: skip
    while True:
        say(" ".join(command))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=deadline.left() + 60, check=False)
        except subprocess.TimeoutExpired:
            error = GiveUpError("RayStartFailed", exit_code=None, seconds=deadline.seconds, detail="")
            deadline.wait("`ray start`", "it did not end", error)
            continue
        except OSError as exc:
            raise cannot_start("ray", exc) from exc
        if done.returncode == 0:
            return
        text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        found = re.search(
            r"Version mismatch: The cluster was started with:\s*Ray: (\S+)\s*Python: (\S+).*?"
            r"was started with:\s*Ray: (\S+)\s*Python: (\S+)",
            text,
            re.DOTALL,
        )
        if found:
            there, python_there, here, python_here = found.groups()
            raise GiveUpError(
                "RayVersionMismatch", found=here, found_python=python_here, cluster=there, cluster_python=python_there
            )
        tail = "\n".join(text.strip().splitlines()[-5:])
        print(text, file=sys.stderr, flush=True)
        error = GiveUpError("RayStartFailed", exit_code=done.returncode, seconds=deadline.seconds, detail=tail)
        deadline.wait("`ray start`", f"exit code {done.returncode}: {tail}", error)


def cannot_start(command: str, exc: OSError) -> GiveUpError:
    """A program that the image does not have, or that the system does not run."""
    return GiveUpError("CannotStart", process="", command=command, detail=exc.strerror or str(exc))


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; everything after -- is the engine's."""
    parser = argparse.ArgumentParser(description="Joins Ray, then runs the vLLM-Omni server.")
    parser.add_argument("--ray-address", required=True, help="host:port of the Ray head's GCS")
    parser.add_argument("--dashboard", required=True, help="http://host:port of the Ray dashboard")
    parser.add_argument(
        "--accelerators", type=int, required=True, help="GPUs that Ray must have before the engine starts"
    )
    parser.add_argument("--wait-seconds", type=float, required=True, help="budget of all waits together")
    parser.add_argument("--object-store-bytes", type=int, required=True, help="this node's object store")
    parser.add_argument(
        "--expected-ray", default="", help="Ray version of this image, or >= and the least one; any when not given"
    )
    parser.add_argument("engine", nargs=argparse.REMAINDER, help="-- vllm serve ...")
    args = parser.parse_args(argv)
    if args.engine[:1] == ["--"]:
        args.engine = args.engine[1:]
    return args


def main(argv: list[str]) -> int:
    """Waits, joins, and runs the engine; returns its exit code, or 1 when it gives up."""
    args = parse(argv)
    deadline = Deadline(args.wait_seconds)
    on_signals(leave)
    try:
        if args.expected_ray:
            check_image(args.expected_ray)
        wait_for_head(args.ray_address, deadline)
        session = check_version(args.dashboard, deadline)
        wait_for_accelerators(args.dashboard, args.accelerators, deadline)
        join(args.ray_address, args.object_store_bytes, deadline)
        say(f"joined {args.ray_address} ({session}); starting: {' '.join(args.engine)}")
        return run(args.engine, args.dashboard, own_address(args.ray_address))
    except GiveUpError as exc:
        message.report(exc.code, **exc.fields)
        return 1


def own_address(address: str) -> str:
    """This pod's address as Ray sees it."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            return str(connection.getsockname()[0])
    except OSError as exc:
        raise GiveUpError("RayHeadLost", address=address, detail=str(exc)) from exc


# How actors end that the server itself ends, or does not refer to any more (Ray's
# ActorDiedErrorContext.Reason).
ON_PURPOSE = ("RAY_KILL", "OUT_OF_SCOPE", "REF_DELETED")


def dead_actor(dashboard: str, here: str) -> GiveUpError | None:
    """An actor of this pod's server that has died, and the cause; None when there is none.

    Every stage is an actor, and so are the two queues by which the server reaches it (0.16);
    without any of them requests hang.
    """
    jobs = [job for job in fetch(f"{dashboard}/api/jobs/") if job.get("status") == "RUNNING"]
    mine = {job["job_id"] for job in jobs if (job.get("driver_info") or {}).get("node_ip_address") == here}
    dead = "filter_keys=state&filter_predicates=%3D&filter_values=DEAD"
    answer = fetch(f"{dashboard}/api/v0/actors?limit=10000&detail=1&{dead}")
    for actor in answer["data"]["result"]["result"]:
        causes: list[dict[str, Any]] = [cause for cause in (actor.get("death_cause") or {}).values() if cause]
        cause = causes[0] if causes else {}
        if actor["job_id"] in mine and cause.get("reason") not in ON_PURPOSE:
            detail = str(cause.get("error_message") or "").strip()
            if len(detail) > 600:  # the end of a traceback says most
                detail = f"{detail[:150]} ... {detail[-450:]}"
            name, pid, address = actor.get("class_name"), actor.get("pid"), cause.get("node_ip_address")
            return GiveUpError("StageLost", actor=name, pid=pid, address=address, detail=detail)
    return None


class Watch:
    """Asks Ray for dead actors until there is one, or the server is to end."""

    def __init__(self, dashboard: str, here: str) -> None:
        self.dashboard, self.here = dashboard, here
        self.found: GiveUpError | None = None
        self.over = False

    def run(self) -> None:
        """Requests the list; a request that fails is repeated later.

        The operator replaces a Ray head that is gone.
        """
        while self.found is None:
            time.sleep(WATCH_SECONDS)
            try:
                found = dead_actor(self.dashboard, self.here)
                if self.over:
                    return
                self.found = found
            except (OSError, ValueError, KeyError, TypeError, AttributeError, http.client.HTTPException):
                continue


def on_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """Process 1 of a container ignores a signal that it has no handler for."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def leave(number: int, _: FrameType | None) -> None:
    """Nothing runs yet that has to be ended."""
    raise SystemExit(128 + number)


def run(command: list[str], dashboard: str, here: str) -> int:
    """Runs the engine, passes signals on, and ends it when one of its stages has ended.

    Returns the engine's exit code, and 1 when a stage has ended.
    """
    try:
        engine = subprocess.Popen(command, start_new_session=True)
    except OSError as exc:
        raise cannot_start(command[0], exc) from exc

    watch = Watch(dashboard, here)

    def hand_on(number: int, _: FrameType | None) -> None:
        watch.over = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(engine.pid, number)

    on_signals(hand_on)
    threading.Thread(target=watch.run, daemon=True).start()
    status = None
    while status is None and watch.found is None:
        status = ended(engine.pid)
        time.sleep(0.2)
    if status is not None:
        return status if status >= 0 else 128 - status
    assert watch.found is not None
    say("a Ray actor of the server has died; ending the server")
    hand_on(signal.SIGTERM, None)
    until = time.monotonic() + GRACE_SECONDS
    while ended(engine.pid) is None and time.monotonic() < until:
        time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(engine.pid, signal.SIGKILL)
    raise watch.found


def ended(engine: int) -> int | None:
    """Reaps every process that has ended, as process 1 of a container must.

    Returns the engine's exit code when the engine is among them.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        if pid == 0:
            return None
        if pid == engine:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
