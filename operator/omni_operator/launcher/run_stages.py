"""Runs the processes of one pod of backend Headless: `ray start`, the head, headless stages.

When one ends, all are ended, and the kubelet starts the container anew. The reason is reported in
the container's termination message (message.py).

A head that starts anew never takes the stages of its predecessor (vllm-omni 0.20 to 0.30), and they
do not notice. So every start of the head is a generation: its pod serves the generation on a port,
and a stage's pod ends when it reads another than the one it joined. A head that initialises waits
until --stage-init-timeout for a stage that registered and is lost; its successor registers as
another replica (verified with 0.30). So a stage's pod keeps a connection to the head's pod. When
that connection ends, or nothing answers on it for a minute, a head that does not serve yet is
ended. When a head that serves loses a stage, the operator restarts the replica.

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
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # which Python leaves out with -I, -P and PYTHONSAFEPATH
import message

POLL_SECONDS = 2.0
SAY_SECONDS = 10.0
SETTLE_SECONDS = 4.0
RAY_NODE = "ray start"
# Of 13 starts of 0.30 on two busy cores one lost its stage's container after 58 s, while Ray
# answered no probe; which process ended is not known. A Ray node that ends so early is started once
# more, since the stage beside it has registered and would be lost.
RAY_TRIES = 4
RAY_START_SECONDS = 180.0  # a Ray node that ends later was up
JOINED = b"1"  # one byte arrives whole or not
# A node that is gone closes no connection. So the kernel probes one that is idle, and closes it
# after a minute.
KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 3))
# A port is served before the kubelet marks its pod as ready, and the operator restarts only servers
# that are ready.
READY_SECONDS = float(os.environ.get("OMNI_READY_SECONDS", "20"))
UNREACHABLE_SECONDS = 60.0  # a head's node may be unreachable for a moment
GRACE_SECONDS = float(os.environ.get("OMNI_GRACE_SECONDS", "45"))  # a head takes 32 s to stop (verified with 0.30)

Report = tuple[str, dict[str, Any]]  # a code and its fields (message.py)


def reason(code: str, **fields: Any) -> Report:
    """Why all processes are ended."""
    return code, fields


def say(text: str) -> None:
    """A line in the container's log."""
    print(f"omni: {text}", flush=True)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Runs the processes of a pod side by side.")
    parser.add_argument(
        "--head", required=True, help="name or address of the head's pod; {head} in a command becomes its address"
    )
    parser.add_argument("--port", type=int, required=True, help="port on which the head's pod serves its generation")
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
    """Answers every connection with this head's generation, until the head is to end.

    A stage that starts after that waits for the next head.
    """
    generation = uuid.uuid4().hex.encode()
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
            except RuntimeError:  # no more threads; the stage asks once more
                client.close()

    def answer(client: socket.socket, peer: str) -> None:
        with client:
            try:
                if processes.stopping:
                    return
                client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, seconds in KEEPALIVE:
                    client.setsockopt(socket.IPPROTO_TCP, option, seconds)
                client.sendall(generation)
                if client.recv(len(JOINED)) != JOINED:
                    return  # it has read the generation and joins nothing
            except OSError:
                return
            with contextlib.suppress(OSError):
                client.recv(1)  # nothing more is sent, so this returns when the connection ends
        processes.on_peer_ended(peer)

    def wait_for_server() -> None:
        while not listens(processes.serves):
            time.sleep(POLL_SECONDS)
        processes.served_since = time.monotonic()

    threading.Thread(target=serve, daemon=True).start()
    if processes.serves:
        threading.Thread(target=wait_for_server, daemon=True).start()


def listens(port: int) -> bool:
    """Whether a server answers on this machine.

    vLLM's server refuses connections until its engine is ready.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def served_port(commands: dict[str, list[str]]) -> int:
    """The port on which the head's server will listen; 0 when none of the commands is a server."""
    return next((int(words[words.index("--port") + 1]) for words in commands.values() if "--port" in words), 0)


def head_generation(address: str, port: int) -> str:
    """The head's generation; empty when it does not answer."""
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            return connection.recv(64).decode()
    except OSError:
        return ""


def join(address: str, port: int, generation: str) -> socket.socket | None:
    """A connection to the head's pod that ends when this pod does.

    None when the head is of another generation, or does not answer.
    """
    try:
        connection = socket.create_connection((address, port), timeout=5)
        with contextlib.ExitStack() as undo:
            undo.enter_context(connection)
            if connection.recv(64).decode() != generation:
                return None
            connection.sendall(JOINED)
            undo.pop_all()
            return connection
    except OSError:
        return None


def wait_for_head(host: str, port: int, processes: Processes) -> tuple[str, str, socket.socket | None]:
    """Address of the head's pod, its generation, and the connection to it.

    It waits without a limit, and logs that it waits. The head's pod may be waiting for accelerators
    for hours; a stage that gives up meanwhile would only start again.
    """
    begun, logged = time.monotonic(), -SAY_SECONDS
    while not processes.ends():
        why = "no answer"
        try:
            address = str(socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
            if generation := head_generation(address, port):
                # A head that lost a stage needs a moment to end. A stage that joined it would have
                # to start twice.
                time.sleep(SETTLE_SECONDS)
                # to join and to leave at once would end the head
                if not processes.ends() and (connection := join(address, port, generation)):
                    return address, generation, connection
                why = f"the head at {address} is ending"
        except OSError as exc:
            why = str(exc)
        passed = time.monotonic() - begun
        if passed - logged >= SAY_SECONDS:
            say(f"waiting for the head at {host}:{port} ({passed:.0f} s): {why}")
            logged = passed
        time.sleep(POLL_SECONDS)
    return "", "", None


class Follower:
    """Whether the head is still the generation that was joined; `ended` says why not."""

    def __init__(
        self, host: str, port: int, address: str, generation: str, connection: socket.socket | None = None
    ) -> None:
        self.host, self.port, self.address = host, port, address
        self.generation, self.connection = generation, connection
        self.last_answer = time.monotonic()
        self.ended: Report | None = None

    def watch(self) -> None:
        """Polls the head until this pod has to restart.

        That is when the generation is another, the head has not answered for too long, or its name
        has another address.
        """
        while self.ended is None:
            time.sleep(POLL_SECONDS)
            generation = head_generation(self.address, self.port)
            if generation == self.generation:
                self.last_answer = time.monotonic()
            elif generation:
                self.ended = reason("HeadRestarted", address=self.address)
            elif self._has_another_address() or time.monotonic() - self.last_answer > UNREACHABLE_SECONDS:
                self.ended = reason("HeadGone", address=self.address)

    def disconnect(self) -> None:
        """Ends the connection to the head's pod at once.

        The processes of this pod still have their time to end.
        """
        if self.connection is not None:
            self.connection.close()

    def _has_another_address(self) -> bool:
        try:
            found = {entry[4][0] for entry in socket.getaddrinfo(self.host, self.port, socket.AF_INET)}
        except OSError:
            return False
        return self.address not in found


class Processes:
    """The processes of this pod, each in its own group: a signal reaches all its children."""

    def __init__(self, serves: int) -> None:
        self.running: dict[int, str] = {}
        self.stopping = False
        self.serves = serves
        self.served_since = 0.0
        self.lost: Report | None = None
        self._ray_starts, self._ray_begun = 0, 0.0
        # A Popen without a reference is reaped by the next one, and `reap` would never see its end.
        self._held: list[subprocess.Popen[bytes]] = []

    def ends(self) -> bool:
        """Whether this pod is to end, which a signal may have asked for meanwhile."""
        return self.stopping

    def start(self, name: str, command: list[str]) -> None:
        """Starts one."""
        say(f"starting {name}: {' '.join(command)}")
        try:
            process = subprocess.Popen(command, start_new_session=True)
        except OSError as exc:
            message.report("CannotStart", process=name, command=command[0], detail=exc.strerror or str(exc))
            raise SystemExit(1) from exc
        self.running[process.pid] = name
        self._held.append(process)
        if name == RAY_NODE:
            self._ray_starts, self._ray_begun = self._ray_starts + 1, time.monotonic()

    def on_peer_ended(self, peer: str) -> None:
        """Called when a pod that had joined has ended.

        A head that has not served for a while would wait for its stages in vain.
        """
        if self.served_since and time.monotonic() - self.served_since > READY_SECONDS:
            say(f"the stages at {peer} have ended")
        elif not self.stopping:
            self.lost = self.lost or reason("PeerLost", address=peer)

    def should_restart(self, name: str, code: int) -> bool:
        """Whether a process that ended is a Ray node that had just begun, and has starts left."""
        early = time.monotonic() - self._ray_begun < RAY_START_SECONDS
        return name == RAY_NODE and code != 0 and early and self._ray_starts < RAY_TRIES and not self.stopping

    def signal(self, number: int) -> None:
        """Sends a signal to all groups."""
        for pid in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

    def reap(self) -> list[tuple[str, int]]:
        """Collects what has ended; returns the processes that are ours.

        As process 1 of the container it also collects orphans.
        """
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
        """Ends all: with SIGTERM, and with SIGKILL what runs after GRACE_SECONDS."""
        self.signal(signal.SIGTERM)
        until = time.monotonic() + GRACE_SECONDS
        while self.running and time.monotonic() < until:
            self.reap()
            time.sleep(0.1)
        self.signal(signal.SIGKILL)
        self.reap()


def signal_name(number: int) -> str:
    """Name of a signal; its number where it has none, as most real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def end_of(process: str, code: int) -> Report:
    """How a process ended: its exit code, or the signal that ended it."""
    name = signal_name(-code) if code < 0 else None
    return reason("ProcessEnded", process=process, exit_code=None if code < 0 else code, signal=name)


def main(argv: list[str]) -> int:
    """Starts all processes, and ends all of them when one ends or on a signal.

    They also end when the head restarts, or loses a stage that it waits for.
    """
    args = parse(argv)
    processes = Processes(served_port(args.run))

    def on_signal(number: int, _: FrameType | None) -> None:
        say(f"got {signal_name(number)}, ending all")
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
    ended: Report | None = None
    while not (ended or processes.stopping or follower.ended or processes.lost):
        time.sleep(0.2)
        for name, code in processes.reap():
            if processes.should_restart(name, code):
                how = f"signal {signal_name(-code)}" if code < 0 else f"exit code {code}"
                say(f"{name} ended ({how}) within {RAY_START_SECONDS:.0f} s of its start, and is started once more")
                time.sleep(POLL_SECONDS)
                processes.start(name, commands[name])
            else:
                ended = ended or end_of(name, code)
    processes.stopping, asked = True, processes.stopping
    follower.disconnect()
    processes.stop()
    why = ended or follower.ended or processes.lost
    if asked or why is None:
        return 0
    message.report(why[0], **why[1])
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
