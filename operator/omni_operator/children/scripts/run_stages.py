"""Runs the processes of one pod of backend Headless side by side: `ray start`, the head, headless stages.

They live and die together: when one ends, all end, and the kubelet starts the container anew. The reason is left where the
operator reads it, in the container's termination message.

A head that starts anew never takes the stages of its predecessor (vllm-omni 0.20 to 0.30), and they do not notice. So the head's
pod announces each of its starts by a number on a port, and the stages' pods follow it: a new number ends them.

Only the standard library: it runs in the engine's image, whose packages are not ours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from types import FrameType

TERMINATION_LOG = os.environ.get("OMNI_TERMINATION_LOG", "/dev/termination-log")
POLL_SECONDS = 2.0
SAY_SECONDS = 10.0
SETTLE_SECONDS = 4.0
RAY_NODE = "ray start"
SILENCE_SECONDS = 60.0  # a head's node may be unreachable for a moment; a head that restarts answers again
GRACE_SECONDS = float(os.environ.get("OMNI_GRACE_SECONDS", "45"))  # a head takes 32 s to stop (0.30, run)


def say(text: str) -> None:
    """A line in the container's log."""
    print(f"omni: {text}", flush=True)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Runs the processes of a pod side by side.")
    parser.add_argument(
        "--head", required=True, help="name or address of the head's pod; {head} in a command becomes its address"
    )
    parser.add_argument("--port", type=int, required=True, help="port on which the head's pod tells which start it is")
    parser.add_argument(
        "--announce", action="store_true", help="this is the head's pod; others end when the head starts anew"
    )
    parser.add_argument(
        "--first-host",
        default="0",
        help="number of this pod among those that run a stage together; 0 runs it, others are its Ray nodes",
    )
    parser.add_argument("--run", required=True, type=json.loads, help="commands by name, as a JSON object of lists")
    return parser.parse_args(argv)


def announce(port: int, processes: Processes) -> None:
    """Answers every connection with the number of this start, until it is to end: a stage that starts meanwhile waits for the next."""
    start = uuid.uuid4().hex.encode()
    listener = socket.create_server(("", port))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
                with client:
                    if not processes.stopping:
                        client.sendall(start)
            except OSError:
                time.sleep(POLL_SECONDS)

    threading.Thread(target=serve, daemon=True).start()


def ask(address: str, port: int) -> str:
    """The number of the head's start; empty when it does not answer."""
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            return connection.recv(64).decode()
    except OSError:
        return ""


def wait_for_head(host: str, port: int, processes: Processes) -> tuple[str, str]:
    """Address of the head's pod and the number of its start; waits as long as it takes, and says so.

    The head's pod may be waiting for accelerators for hours; a stage that gives up meanwhile would only start again.
    """
    begun, spoke = time.monotonic(), -SAY_SECONDS
    while not processes.stopping:
        why = "no answer"
        try:
            address = str(socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
            if start := ask(address, port):
                # A stage that was lost takes its head along, which needs a moment; to join it would be to start twice.
                time.sleep(SETTLE_SECONDS)
                if ask(address, port) == start:
                    return address, start
                why = f"the head at {address} is ending"
        except OSError as exc:
            why = str(exc)
        passed = time.monotonic() - begun
        if passed - spoke >= SAY_SECONDS:
            say(f"waiting for the head at {host}:{port} ({passed:.0f} s): {why}")
            spoke = passed
        time.sleep(POLL_SECONDS)
    return "", ""


class Follower:
    """Whether the head is still the one that was joined; `ended` says why not."""

    def __init__(self, host: str, port: int, address: str, start: str) -> None:
        self.host, self.port, self.address, self.start = host, port, address, start
        self.heard = time.monotonic()
        self.ended = ""

    def watch(self) -> None:
        """Asks until the answer is another, or silence has lasted too long and the name leads elsewhere."""
        while not self.ended:
            time.sleep(POLL_SECONDS)
            start = ask(self.address, self.port)
            if start == self.start:
                self.heard = time.monotonic()
            elif start:
                self.ended = f"the head at {self.address} has started anew, and takes no stages of its predecessor"
            elif self._moved() or time.monotonic() - self.heard > SILENCE_SECONDS:
                self.ended = f"the head at {self.address} is gone"

    def _moved(self) -> bool:
        try:
            found = {entry[4][0] for entry in socket.getaddrinfo(self.host, self.port, socket.AF_INET)}
        except OSError:
            return False
        return self.address not in found


class Processes:
    """The processes of this pod; each has a group of its own, so that all its children get a signal."""

    def __init__(self) -> None:
        self.running: dict[int, str] = {}
        self.stopping = False

    def start(self, name: str, command: list[str]) -> None:
        """Starts one."""
        say(f"starting {name}: {' '.join(command)}")
        try:
            process = subprocess.Popen(command, start_new_session=True)
        except OSError as exc:
            raise SystemExit(leave(f"{name} cannot start: {exc}")) from exc
        self.running[process.pid] = name

    def signal(self, number: int) -> None:
        """Sends a signal to all groups."""
        for pid in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

    def reap(self) -> tuple[str, int] | None:
        """Collects what has ended (also orphans, since this is process 1 of the container); returns the first that is ours."""
        first = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return first
            if pid == 0:
                return first
            name = self.running.pop(pid, None)
            if name is not None and first is None:
                first = name, os.waitstatus_to_exitcode(status)

    def stop(self) -> None:
        """Ends all, gently at first."""
        self.signal(signal.SIGTERM)
        until = time.monotonic() + GRACE_SECONDS
        while self.running and time.monotonic() < until:
            self.reap()
            time.sleep(0.1)
        self.signal(signal.SIGKILL)
        self.reap()


def leave(text: str) -> int:
    """Leaves the reason where the operator reads it; returns the exit code."""
    say(text)
    Path(TERMINATION_LOG).write_text(text[:4000], encoding="utf-8")
    return 1


def main(argv: list[str]) -> int:
    """Starts all, and ends all when one ends, when the head starts anew, or on a signal."""
    args = parse(argv)
    processes = Processes()

    def on_signal(number: int, _: FrameType | None) -> None:
        say(f"got {signal.Signals(number).name}, ending all")
        processes.stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if args.announce:
        announce(args.port, processes)
        follower = Follower(args.head, args.port, args.head, "")
    else:
        follower = Follower(args.head, args.port, *wait_for_head(args.head, args.port, processes))
        threading.Thread(target=follower.watch, daemon=True).start()
    ended = None
    if not processes.stopping:
        mine = args.run if args.first_host == "0" else {name: args.run[name] for name in args.run if name == RAY_NODE}
        for name, command in mine.items():
            processes.start(name, [part.replace("{head}", follower.address) for part in command])
    while ended is None and not processes.stopping and not follower.ended:
        time.sleep(0.2)
        ended = processes.reap()
    processes.stop()
    if processes.stopping:
        return 0
    if ended is None:
        return leave(f"{follower.ended}; all processes of this pod were ended to start anew with it")
    name, code = ended
    how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
    return leave(f"{name} ended ({how}); all processes of this pod were ended with it")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
