"""Runs the processes of one pod of backend Headless side by side: `ray start`, the head, headless stages.

They live and die together: when one ends, all end, and the kubelet starts the container anew. The reason is left where the
operator reads it, in the container's termination message.

A head that starts anew never takes the stages of its predecessor (vllm-omni 0.20 to 0.30), and they do not notice. So the head's
pod announces each of its starts by a number on a port, and the stages' pods follow it: a new number ends them. And a head that
initialises waits until --stage-init-timeout for a stage that registered and is lost; the one that comes after it registers as
another replica (0.30, run). So a stage's pod keeps a connection to the head's for as long as it lives: its end, or a minute of
silence below it, ends a head that does not serve yet. What a head that serves has lost is the operator's affair.

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
# Of 13 starts of 0.30 on two busy cores one lost its stage's container after 58 s, while Ray answered no probe; which process
# ended was not read. A Ray node that ends so early is tried again, since the stage beside it has registered and would be lost.
RAY_TRIES = 4
RAY_START_SECONDS = 180.0  # an end after this is taken for that of a node that was up
JOINED = b"1"  # one byte arrives whole or not
# The end of a stage's pod whose node is gone is never sent; what is quiet for a minute is asked by the kernel.
KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 3))
FOLLOWED = (
    "has started anew, and takes no stages of its predecessor"  # controller/health.py knows by it what only followed
)
# A port is served before the kubelet calls its pod ready, and the operator looks after servers that are.
READY_SECONDS = float(os.environ.get("OMNI_READY_SECONDS", "20"))
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
                client, (peer, *_) = listener.accept()
            except OSError:
                time.sleep(POLL_SECONDS)
                continue
            try:
                threading.Thread(target=answer, args=(client, peer), daemon=True).start()
            except RuntimeError:  # no more threads: as if nobody had answered
                client.close()

    def answer(client: socket.socket, peer: str) -> None:
        with client:
            try:
                if processes.stopping:
                    return
                client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, seconds in KEEPALIVE:
                    client.setsockopt(socket.IPPROTO_TCP, option, seconds)
                client.sendall(start)
                if client.recv(len(JOINED)) != JOINED:
                    return  # it only asked
            except OSError:
                return
            with contextlib.suppress(OSError):
                client.recv(1)  # nothing more is sent, so this is its end
        processes.lose(peer)

    def look() -> None:
        while not listens(processes.serves):
            time.sleep(POLL_SECONDS)
        processes.served_since = time.monotonic()

    threading.Thread(target=serve, daemon=True).start()
    if processes.serves:
        threading.Thread(target=look, daemon=True).start()


def listens(port: int) -> bool:
    """Whether a server answers on this machine; vLLM's does when its engine is ready, and refuses connections before."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def served_port(commands: dict[str, list[str]]) -> int:
    """The port on which the head's server will listen; 0 when none of the commands is a server."""
    return next((int(words[words.index("--port") + 1]) for words in commands.values() if "--port" in words), 0)


def ask(address: str, port: int) -> str:
    """The number of the head's start; empty when it does not answer."""
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            return connection.recv(64).decode()
    except OSError:
        return ""


def join(address: str, port: int, start: str) -> socket.socket | None:
    """A connection that tells the head's pod by its end that this pod has ended; None when the head is another, or none."""
    try:
        connection = socket.create_connection((address, port), timeout=5)
        with contextlib.ExitStack() as undo:
            undo.enter_context(connection)
            if connection.recv(64).decode() != start:
                return None
            connection.sendall(JOINED)
            undo.pop_all()
            return connection
    except OSError:
        return None


def wait_for_head(host: str, port: int, processes: Processes) -> tuple[str, str, socket.socket | None]:
    """Address of the head's pod, the number of its start, and the connection to it; waits as long as it takes, and says so.

    The head's pod may be waiting for accelerators for hours; a stage that gives up meanwhile would only start again.
    """
    begun, spoke = time.monotonic(), -SAY_SECONDS
    while not processes.ends():
        why = "no answer"
        try:
            address = str(socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
            if start := ask(address, port):
                # A stage that was lost takes its head along, which needs a moment; to join it would be to start twice.
                time.sleep(SETTLE_SECONDS)
                # to join and to leave at once would end the head
                if not processes.ends() and (connection := join(address, port, start)):
                    return address, start, connection
                why = f"the head at {address} is ending"
        except OSError as exc:
            why = str(exc)
        passed = time.monotonic() - begun
        if passed - spoke >= SAY_SECONDS:
            say(f"waiting for the head at {host}:{port} ({passed:.0f} s): {why}")
            spoke = passed
        time.sleep(POLL_SECONDS)
    return "", "", None


class Follower:
    """Whether the head is still the one that was joined; `ended` says why not."""

    def __init__(self, host: str, port: int, address: str, start: str, joined: socket.socket | None = None) -> None:
        self.host, self.port, self.address, self.start, self.joined = host, port, address, start, joined
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
                self.ended = f"the head at {self.address} {FOLLOWED}"
            elif self._moved() or time.monotonic() - self.heard > SILENCE_SECONDS:
                self.ended = f"the head at {self.address} is gone"

    def part(self) -> None:
        """Tells the head's pod, before what runs here has had its time to end."""
        if self.joined is not None:
            self.joined.close()

    def _moved(self) -> bool:
        try:
            found = {entry[4][0] for entry in socket.getaddrinfo(self.host, self.port, socket.AF_INET)}
        except OSError:
            return False
        return self.address not in found


class Processes:
    """The processes of this pod; each has a group of its own, so that all its children get a signal."""

    def __init__(self, serves: int) -> None:
        self.running: dict[int, str] = {}
        self.stopping = False
        self.serves = serves
        self.served_since = 0.0
        self.lost = ""
        self._ray_tries, self._ray_begun = 0, 0.0
        # A Popen that nobody holds is collected by the next one, and its end would never reach `reap`.
        self._held: list[subprocess.Popen[bytes]] = []

    def ends(self) -> bool:
        """Whether this pod is to end, which a signal may have said meanwhile."""
        return self.stopping

    def start(self, name: str, command: list[str]) -> None:
        """Starts one."""
        say(f"starting {name}: {' '.join(command)}")
        try:
            process = subprocess.Popen(command, start_new_session=True)
        except OSError as exc:
            raise SystemExit(leave(f"{name} cannot start: {exc}")) from exc
        self.running[process.pid] = name
        self._held.append(process)
        if name == RAY_NODE:
            self._ray_tries, self._ray_begun = self._ray_tries + 1, time.monotonic()

    def lose(self, peer: str) -> None:
        """A pod that had joined has ended: this head may wait for its stages in vain, unless it has served for a while."""
        if self.served_since and time.monotonic() - self.served_since > READY_SECONDS:
            say(f"the stages at {peer} have ended")
        elif not self.stopping:
            self.lost = self.lost or f"the stages at {peer} ended when they had joined, before this head could serve"

    def tries_again(self, name: str, code: int) -> bool:
        """Whether a process that ended is a Ray node that hardly began, and is worth another try."""
        early = time.monotonic() - self._ray_begun < RAY_START_SECONDS
        return name == RAY_NODE and code != 0 and early and self._ray_tries < RAY_TRIES and not self.stopping

    def signal(self, number: int) -> None:
        """Sends a signal to all groups."""
        for pid in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

    def reap(self) -> list[tuple[str, int]]:
        """Collects what has ended (also orphans, since this is process 1 of the container); returns those that are ours."""
        ours: list[tuple[str, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ours
            if pid == 0:
                return ours
            name = self.running.pop(pid, None)
            if name is not None:
                ours.append((name, os.waitstatus_to_exitcode(status)))

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


def how(code: int) -> str:
    """In which way a process ended."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def main(argv: list[str]) -> int:
    """Starts all, and ends all when one ends, when the head starts anew or loses a stage it waits for, or on a signal."""
    args = parse(argv)
    processes = Processes(served_port(args.run))

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
    mine = args.run if args.first_host == "0" else {name: args.run[name] for name in args.run if name == RAY_NODE}
    commands = {name: [part.replace("{head}", follower.address) for part in mine[name]] for name in mine}
    if not processes.stopping:
        for name, command in commands.items():
            processes.start(name, command)
    ended = ""
    while not (ended or processes.stopping or follower.ended or processes.lost):
        time.sleep(0.2)
        for name, code in processes.reap():
            if processes.tries_again(name, code):
                say(f"{name} ended ({how(code)}) within {RAY_START_SECONDS:.0f} s of its start, and is tried again")
                time.sleep(POLL_SECONDS)
                processes.start(name, commands[name])
            else:
                ended = ended or f"{name} ended ({how(code)}); all processes of this pod were ended with it"
    processes.stopping, asked = True, processes.stopping
    follower.part()
    processes.stop()
    if asked:
        return 0
    return leave(
        ended or f"{follower.ended or processes.lost}; all processes of this pod were ended to start anew with it"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
