"""Kills every part in turn and writes docs/reference/failures.md: `python -m e2e.failures`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from e2e import cluster_under_test, diagnostics
from e2e.cluster import shell
from e2e.cluster_under_test import ENGINE, GPU, ROOT, Omni, devices
from e2e.failures.fault_injection import HEADLESS, RAY, Fault
from e2e.failures.watch import Client, Said, said
from e2e.test_modern_engine import THREE
from omni_operator.controller.rollout.backoff import STABLE_AFTER

PAGE = ROOT / "docs/reference/failures.md"
PICTURES = ROOT / "out/failures"
_SERVED_ON = "nothing, it served on"
_MODERN = "vllm-omni 0.30, Headless on two nodes, MooncakeStore over TCP"
_RAY = "vllm-omni 0.16, Ray on two nodes, MooncakeStore over TCP"
ROUNDS: dict[str, tuple[Fault, ...]] = {_MODERN: HEADLESS, _RAY: RAY}
SPECS: dict[str, tuple[str, dict[str, Any], int]] = {  # name, spec, and accelerators of a node
    _MODERN: ("modern", THREE, 1),
    _RAY: (
        "ray",
        {
            "model": {"name": "/models/tiny-omni"},
            "engine": {"version": "0.16.0", "image": ENGINE},
            "placement": {"strategy": "Spread"},
        },
        2,
    ),
}
LIMIT = 900.0  # seconds until a pipeline must serve again
_STARTING = frozenset({"ServerStarting", "RayStarting", "WarmingUp", "Unschedulable"})
_LONGEST = 300
_UNNOTICED_AFTER = 25.0  # seconds without a failed request or a condition of Ready


@dataclass(slots=True)
class Record:
    """What followed one fault; times are seconds after it."""

    part: str
    noticed: float | None = None
    answered: float | None = None
    ready: float | None = None
    lost: int = 0
    restarts: int = 0
    said: list[Said] = field(default_factory=list)

    def row(self) -> str:
        """A line of the table."""
        seconds = ["-" if each is None else f"{each:.0f} s" for each in (self.noticed, self.answered, self.ready)]
        words = []
        for each in self.said:
            if not each.ready and (not words or words[-1] != f"`{each.reason}`"):
                words.append(f"`{each.reason}`")
        cells = (self.part, seconds[0], " ".join(words) or "-", seconds[1], seconds[2], self.lost, self.restarts)
        return f"| {' | '.join(str(cell) for cell in cells)} |"

    def first_words(self) -> str:
        """The first message that gave a cause, on one line."""
        false = [each for each in self.said if not each.ready]
        causes = [each for each in false if each.reason not in _STARTING] or false
        return " ".join(causes[0].message.split())[:_LONGEST] if causes else ""


def inject(omni: Omni, fault: Fault) -> Record:
    """Injects one fault, and waits until requests pass and status says so."""
    record, client = Record(fault.part), Client(omni)
    client.start()
    cluster_under_test.eventually("an answer before the fault", lambda: client.answered_since(0), seconds=300)
    restarts = omni.restarts()
    begun = time.monotonic()
    fault.inject(omni)
    after, seen = fault.after, False
    while time.monotonic() < begun + LIMIT:
        try:
            now = said(omni)
        except shell.CommandError:
            continue  # the API server is busy
        if not record.said or (now.reason, now.ready) != (record.said[-1].reason, record.said[-1].ready):
            record.said.append(now)
            shell.say(f"{now.at - begun:5.0f} s  {now.reason}: {now.message[:200]}")
        if not now.ready and record.noticed is None:
            record.noticed = now.at - begun
            _picture(omni, fault.part)
        if after is not None and (record.noticed is not None or now.at > begun + 100):
            after(omni)
            after = None
        failed = [r for r in client.requests if not r.answered and r.ended > begun]
        since = max((r.ended for r in failed), default=begun)
        answered = client.answered_since(since)
        seen = seen or bool(failed) or record.noticed is not None
        if now.ready and answered is not None and after is None and (seen or now.at > begun + _UNNOTICED_AFTER):
            record.answered = answered - begun
            record.ready = now.at - begun if record.noticed is not None else None
            break
        time.sleep(0.3)
    else:
        shell.say(omni.diagnostics())
    client.stopping.set()
    client.join(60)
    record.lost, record.restarts = client.lost_since(begun), omni.restarts() - restarts
    shell.say(record.row())
    return record


def _picture(omni: Omni, part: str) -> None:
    """Keeps the output of `omni status` when Ready is first False."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / f"{part.replace(' ', '-').replace(chr(39), '')}.txt").write_text(
        diagnostics.status(omni.namespace, omni.name)
    )


def round_of(title: str, faults: Sequence[Fault]) -> None:
    """Starts a pipeline, and injects all faults in turn."""
    space, (name, spec, each) = cluster_under_test.namespace("failures"), SPECS[title]
    with devices(worker={GPU: each}, worker2={GPU: each}):
        omni = Omni(space, name)
        omni.apply(**spec)
        shell.say(f"{title}: waiting until it is Ready")
        omni.wait("Ready", seconds=900)
        for fault in faults:
            time.sleep(STABLE_AFTER)  # so that its restart does not count as repeated
            shell.say(f"== {title}: {fault.part}")
            keep(title, inject(omni, fault))
        omni.delete()


Rows = dict[str, dict[str, tuple[str, str]]]


def known_rows(text: str) -> Rows:
    """Row and first message of every fault of a page, by round and part."""
    found: Rows = {}
    for title, _, rest in (part.partition("\n") for part in text.split("\n## ")[1:]):
        lines = rest.splitlines()
        rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
        words = dict(line[2:].split(": ", 1) for line in lines if line.startswith("- "))
        found[title] = {part: (row, words[part]) for part, row in rows.items() if part in words}
    return found


def keep(title: str, record: Record) -> None:
    """Writes a row in place of an earlier one."""
    known = known_rows(PAGE.read_text())
    row = f"{record.row()} {datetime.now(UTC):%Y-%m-%d} |"
    known.setdefault(title, {})[record.part] = (row, record.first_words() or _SERVED_ON)
    PAGE.write_text(page(known))


def page(known: Rows) -> str:
    """The page."""
    out = [
        "# When a part fails",
        "",
        "Written by `make failures` on a kind cluster of three nodes that share 2 cores, with the real engines "
        "without a GPU: the times are those of starting an engine on a busy CPU. What counts is what was noticed, "
        "what status said, and that requests passed again. One client asks all the time, again half a second after "
        "each refusal, and waits at most 30 s for an answer; what it did not get is counted as lost.",
        "",
    ]
    for title, faults in ROUNDS.items():
        rows = [known[title][fault.part] for fault in faults if fault.part in known.get(title, {})]
        out += [f"## {title}", ""]
        out.append(
            "| killed | Ready was False after | status said | a request passed again after | Ready again after "
            "| requests lost | servers ended by the operator | run on |"
        )
        out.append("|---|---|---|---|---|---|---|---|")
        out += [row for row, _ in rows]
        out += ["", "What status said first:", ""]
        out += [f"- {row.split('|')[1].strip()}: {words}" for row, words in rows]
        out.append("")
    return "\n".join(out)


def main() -> None:
    """Both engines, or what --only selects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults whose name has this text; other rows of the page stay")
    parser.add_argument("--release", choices=["0.16", "0.30", "all"], default="all")
    args = parser.parse_args()
    cluster_under_test.up(with_engine=args.release != "0.30", with_standin=False)
    if args.release != "0.16":
        cluster_under_test.modern()
    for title, faults in ROUNDS.items():
        chosen = [fault for fault in faults if args.only in fault.part]
        if chosen and args.release in {"all", title.split()[1].rstrip(",")}:
            round_of(title, chosen)


if __name__ == "__main__":
    main()
