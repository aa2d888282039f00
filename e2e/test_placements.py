"""Pipelines on the stand-in move repeatedly: at most one restart per cause, no wrong Ready.

Moves are drawn from a seed that is printed with every failure; OMNI_E2E_SEED repeats it.
"""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.cluster import nodes, shell
from e2e.cluster_under_test import STANDIN, Omni, eventually
from omni_operator.cli.access import AccessError
from omni_operator.controller.rollout.backoff import STABLE_AFTER

SEED = int(os.environ.get("OMNI_E2E_SEED", "20261129"))
PIPELINES = 2
MOVES = int(os.environ.get("OMNI_E2E_MOVES", "50"))  # of each
MOST_WITHOUT_REST = 2  # servers that are ended
LAG = 5.0  # seconds that Ready may be True after a request failed; a loss has to be seen first
SPEC: dict[str, Any] = {
    "model": {"name": "/models/tiny-omni"},
    "engine": {"version": "0.16.0", "image": STANDIN},
    "accelerator": {"type": "cpu"},
    "serving": {"terminationGracePeriodSeconds": 60, "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}},
}


@dataclass
class Watcher(threading.Thread):
    """Reads Ready and asks, all the time; keeps what should not have been."""

    omni: Omni
    wrong: list[str] = field(default_factory=list)
    changes: list[tuple[float, str, str]] = field(default_factory=list)
    answers: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = object.__hash__

    def run(self) -> None:
        """Until it is over."""
        failing_since: float | None = None
        while not self.over.wait(0.3):
            ready = self._ready()
            try:
                answered = bool(self.omni.ask(seconds=10).get("text"))
            except (AccessError, RuntimeError, shell.CommandError, KeyError):
                answered = False
            if answered or not ready or not self._ready():
                failing_since = None
                self.answers += answered
                continue
            failing_since = failing_since or time.monotonic()
            if (lasted := time.monotonic() - failing_since) > LAG:
                self.wrong.append(f"Ready was True for {lasted:.0f} s while no request was answered")

    def _ready(self) -> bool:
        try:
            found = next(c for c in self.omni.status().get("conditions") or () if c["type"] == "Ready")
        except (StopIteration, shell.CommandError):
            return False
        if not self.changes or self.changes[-1][1] != found["status"]:
            self.changes.append((time.monotonic(), found["status"], f"{found['reason']}: {found['message']}"))
        return bool(found["status"] == "True")


def _delete(omni: Omni, dice: random.Random) -> str:
    pod = dice.choice([p for p in omni.pods() if "deletionTimestamp" not in p["metadata"]])["metadata"]["name"]
    nodes.kubectl("delete", "pod", pod, "-n", omni.namespace, "--grace-period=1", "--wait=false")
    return f"deleted {pod}"


def _to_node(omni: Omni, dice: random.Random) -> str:
    node = dice.choice(nodes.workers())
    omni.patch({"placement": {"nodeSelector": {"kubernetes.io/hostname": node}}})
    return f"sent to {node}"


def _shape(omni: Omni, dice: random.Random) -> str:
    strategy = dice.choice(["OneNode", "Spread"])
    omni.patch({"placement": {"strategy": strategy, "nodeSelector": None}})
    return f"made {strategy}"


def _moved_around(omni: Omni, seed: int) -> list[str]:
    """Makes the moves of one pipeline; what went wrong, with the moves before it."""
    dice, watcher, history, wrong = random.Random(seed), Watcher(omni), [f"seed {seed}"], []
    omni.apply(**SPEC)
    omni.wait("Ready", seconds=240)
    watcher.start()
    ended_since_rest = 0
    try:
        for number in range(MOVES):
            before, changes, revision = omni.restarts(), len(watcher.changes), omni.status()["revision"]
            history.append(f"{number}: {dice.choice([_delete, _delete, _to_node, _shape])(omni, dice)}")
            shell.say(f"{omni.name} {history[-1]}")
            time.sleep(3)
            omni.wait("Ready", seconds=300)
            eventually("an answer", lambda: omni.ask(seconds=20)["text"], seconds=60)
            time.sleep(1)
            ended_since_rest += omni.restarts() - before
            # After more restarts the operator waits minutes for the next server (RestartBackOff).
            if ended_since_rest >= MOST_WITHOUT_REST:
                time.sleep(STABLE_AFTER + 5)
                ended_since_rest = 0
            left = [text for _, text, _ in watcher.changes[changes:]]
            ended = omni.restarts() - before
            if left.count("False") > 1 or ended > 1:
                wrong.append(
                    f"{history[-1]} (from {revision}): Ready went {left}, {ended} servers ended: "
                    f"{watcher.changes[changes:]}"
                )
    except TimeoutError as exc:
        wrong.append(f"{history[-1]}: {exc}")
    finally:
        watcher.over.set()
        watcher.join(30)
    wrong += watcher.wrong
    if watcher.answers < MOVES:
        wrong.append(f"only {watcher.answers} requests were answered")
    return [f"{text}\n  after: {'; '.join(history)}" for text in wrong]


@pytest.mark.full
def test_no_flap_and_no_wrong_true(space: str) -> None:
    with ThreadPoolExecutor(PIPELINES) as pool:
        found = [
            pool.submit(_moved_around, Omni(space, f"moved-{number}"), SEED + number) for number in range(PIPELINES)
        ]
        wrong = [text for each in found for text in each.result()]
    assert not wrong, "\n".join(wrong)
