"""One end of an edge, in a pod with the engine's image: opens the connector and moves payloads.

    probe.py give END            the producer: puts what the other end asks for
    probe.py take END HOST SIZES ROUNDS

END is JSON: {"connector": class, "extra": {...}, "edge": [from, to], "pause": seconds}, as the
release's loader resolved it from the rendered file; the pause is between put and get, and not
counted.

The consumer prints one line of JSON per payload: {"size", "put", "got", "put_seconds",
"get_seconds", "error"}; `put` is what the producer's connector said, `got` whether the payload
arrived as it was sent. What carries a key from the producer to the consumer is the server in a real
pipeline, and a socket here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import torch
from vllm_omni.distributed.omni_connectors.factory import OmniConnectorFactory
from vllm_omni.distributed.omni_connectors.utils.config import ConnectorSpec

PORT, KEY = 7099, b"omni-transfers"
WAIT_SECONDS = 180
# Seconds in which a payload that is not there yet is asked for again, as the engine does: Nixl asks
# its producer for 10 ms at most.
AGAIN = 10.0


def payload(size: int, seed: int) -> dict[str, Any]:
    """What stages send: a dict with a tensor; `size` bytes of it."""
    numbers = torch.arange(size // 4, dtype=torch.int32).add_(seed)
    return {"latent": numbers.view(torch.float32) if size >= 4 else numbers, "seed": seed}


def difference(found: Any, size: int, seed: int) -> str:
    """How a payload differs from what was sent, bit by bit; empty when it does not."""
    if not isinstance(found, dict) or found.get("seed") != seed:
        return "another payload"
    mine, theirs = payload(size, seed)["latent"].view(torch.int32), found["latent"].view(torch.int32)
    if mine.shape != theirs.shape:
        return f"{theirs.numel()} of {mine.numel()} words"
    wrong = (mine != theirs).nonzero()
    if not len(wrong):
        return ""
    return f"{len(wrong)} of {mine.numel()} words differ, from {int(wrong[0])} to {int(wrong[-1])}"


def connector(end: dict[str, Any]) -> Any:
    """The release's connector."""
    return OmniConnectorFactory.create_connector(ConnectorSpec(name=end["connector"], extra=end["extra"]))


def give(end: dict[str, Any]) -> None:
    """Serve puts until the consumer ends; each connection in a process, which a put may kill."""
    listener = Listener(("0.0.0.0", PORT), authkey=KEY)
    print("ready", flush=True)
    while True:
        connection = listener.accept()
        child = get_context("fork").Process(target=_serve, args=(end, connection))
        child.start()
        connection.close()
        child.join()
        print(f"producer ended with {child.exitcode}", flush=True)


def _serve(end: dict[str, Any], connection: Connection) -> None:
    edge, opened = [str(stage) for stage in end["edge"]], connector(end)
    connection.send("open")
    while True:
        try:
            key, size, seed = connection.recv()
        except EOFError:
            break
        sent = payload(size, seed)
        begun = time.perf_counter()
        try:
            ok, _, metadata = opened.put(*edge, key, sent)
            answer = {"put": bool(ok), "metadata": metadata, "error": ""}
        except Exception as exc:
            answer = {"put": False, "metadata": None, "error": f"{type(exc).__name__}: {exc}"}
        connection.send({**answer, "put_seconds": time.perf_counter() - begun})
    os._exit(0)  # connectors join threads at exit, some for long


def ask(opened: Any, edge: list[str], key: str, metadata: Any) -> Any:
    """A payload, or None when it did not come in time."""
    until = time.monotonic() + AGAIN
    while (found := opened.get(*edge, key, metadata)) is None and time.monotonic() < until:
        time.sleep(0.001)
    return found


def take(end: dict[str, Any], host: str, sizes: list[int], rounds: int) -> None:
    """Ask for payloads of each size and get them."""
    edge, opened, peer = [str(stage) for stage in end["edge"]], connector(end), _dial(host)
    for number in range(len(sizes) * rounds):
        size = sizes[number // rounds]
        line = {"size": size, "put": False, "got": False, "put_seconds": 0.0, "get_seconds": 0.0, "error": ""}
        key = f"transfer-{os.getpid()}-{number}"
        try:
            peer.send((key, size, number))
            answer = peer.recv()
        except (EOFError, OSError):
            line["error"] = "the producer died"
            peer = _dial(host)
        else:
            line |= {name: answer[name] for name in ("put", "put_seconds", "error")}
            if answer["put"]:
                time.sleep(end["pause"])
                begun = time.perf_counter()
                try:
                    found = ask(opened, edge, key, answer["metadata"])
                    line["get_seconds"] = time.perf_counter() - begun
                    line["error"] = "nothing was found" if found is None else difference(found[0], size, number)
                    line["got"] = not line["error"]
                except Exception as exc:
                    line["error"] = f"{type(exc).__name__}: {exc}"
                opened.cleanup(key)
        print(json.dumps(line), flush=True)
    os._exit(0)


def _dial(host: str) -> Connection:
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            peer = Client((host, PORT), authkey=KEY)
            assert peer.recv() == "open"
        except (OSError, EOFError):
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
        else:
            return peer


if __name__ == "__main__":
    if sys.argv[1] == "give":
        give(json.loads(sys.argv[2]))
    else:
        take(json.loads(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), int(sys.argv[5]))
