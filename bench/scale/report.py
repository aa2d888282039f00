"""The figures as a table for a terminal and as a page, each beside its goal."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.scale.turns import Steady, Turn
from e2e.cluster.modules import KUBERAY, KUBERNETES, LWS

NAMES = {
    "operator": "OmniDeployment",
    "direct": "direct apply",
    "kuberay": "KubeRay alone",
    "lws": "LeaderWorkerSet",
}
MORE_WRITES = {"Spread": 4, "OneNode": 5}  # than children: OneNode keeps a finalizer
CPU_MS, RATIO, RATIO_AT = 20.0, 1.10, 300
BASE_BYTES, POD_BYTES = 80e6, 4e3
OTHERS = 0.1  # of the CPU that was used
MARKS = ("<!-- figures: written by `python -m bench.reconcile --markdown` -->\n", "<!-- end of figures -->\n")


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure and what it should be."""

    what: str
    value: str
    wanted: str
    met: bool

    def __str__(self) -> str:
        """As one cell."""
        return f"{self.what} {self.value}, goal {self.wanted}: {'met' if self.met else 'NOT MET'}"


def goals(turn: Turn, ratio: float | None) -> list[Goal]:
    """The operator's goals for one turn.

    The ratio has one where it is large enough to say something.
    """
    writes, wanted = sum(turn.writes.values()) / turn.size, turn.children + MORE_WRITES.get(turn.layout, 4)
    reads, milliseconds = sum(turn.reads.values()), turn.cpu / turn.size * 1000
    bound = BASE_BYTES + POD_BYTES * turn.pods
    found = [
        Goal(
            "writes each",
            f"{writes:.1f}",
            f"{wanted:.1f} ({turn.children:.0f} children + {wanted - turn.children:.0f})",
            writes <= wanted,
        ),
        Goal("reads beyond watches", f"{reads}", "0", not reads),
        Goal("CPU each", f"{milliseconds:.1f} ms", f"< {CPU_MS:.0f} ms", milliseconds < CPU_MS),
        Goal("peak memory", f"{turn.peak / 1e6:.0f} MB", f"< {bound / 1e6:.0f} MB", turn.peak < bound),
    ]
    if ratio is not None and turn.size >= RATIO_AT:
        found.append(Goal("time over direct apply", f"{ratio:.2f}", f"<= {RATIO:.2f}", ratio <= RATIO))
    return found


def steady_goals(steady: Steady) -> list[Goal]:
    """The operator's goals at rest."""
    writes, reads = sum(steady.writes["operator"].values()), sum(steady.reads["operator"].values())
    return [
        Goal(f"writes in {steady.seconds:.0f} s", f"{writes}", "0", not writes),
        Goal(f"reads in {steady.seconds:.0f} s", f"{reads}", "0", not reads),
    ]


def ratio(turns: Sequence[Turn], layout: str, size: int) -> float | None:
    """Median of the rounds' ratios of operator over direct apply."""
    seconds = {(t.subject, t.round): t.seconds for t in turns if (t.layout, t.size) == (layout, size)}
    found = [
        seconds["operator", number] / seconds["direct", number]
        for name, number in seconds
        if name == "operator" and ("direct", number) in seconds
    ]
    return statistics.median(found) if found else None


HEAD = (
    f"{'way':16} {'layout':8} {'size':>4} {'pods':>5} {'s':>7} {'writes/each':>11} {'reads':>6} {'CPU ms/each':>11} "
    f"{'peak MB':>8} {'KB/pod':>7} {'busy':>5}"
)


def line(turn: Turn) -> str:
    """A turn as a line of the terminal's table."""
    own = turn.subject != "direct"
    cells = _cells(turn) if own else ["-"] * 5
    return (
        f"{NAMES[turn.subject]:16} {turn.layout:8} {turn.size:4d} {turn.pods:5d} {turn.seconds:7.1f} "
        f"{cells[0]:>11} {cells[1]:>6} "
        f"{cells[2]:>11} {cells[3]:>8} {cells[4]:>7} {turn.cores.share * 100:4.0f}%"
    )


def details(turn: Turn) -> Iterator[str]:
    """What stands below the line."""
    if turn.subject != "direct":
        yield f"writes/each: {each(turn.writes, turn.size)}"
        if turn.reads:
            yield f"reads: {each(turn.reads, 1)}"
    yield f"limit: {limit(turn)}; used by {turn.cores.words()}"


def limit(turn: Turn) -> str:
    """What bounded the time."""
    others = turn.cores.by_process["others"] / turn.cores.busy
    if others > OTHERS:
        return (
            f"other programs took {others * 100:.0f} % of what was used of the {os.cpu_count()} cores, "
            "so times say little"
        )
    if turn.cores.share >= 0.9:
        return f"the {os.cpu_count()} cores"
    return (
        f"not the {os.cpu_count()} cores ({turn.cores.share * 100:.0f} % busy): waits between processes "
        "and client limits"
    )


def each(counts: Mapping[str, int], size: int) -> str:
    """Counts by verb and kind, per object, largest first."""
    shown = [f"{what} {n / size:.2f}".removesuffix(".00") for what, n in Counter(counts).most_common()]
    return ", ".join(shown) or "none"


def limits(qps: int, lws_qps: str) -> str:
    """Client limits, without which no figure means anything."""
    return (
        f"controller manager and scheduler at {qps} requests/s (burst {2 * qps}; their defaults are 20 and 50), "
        "KubeRay's manager at its default of 100 (burst 200) with 2 workers, LeaderWorkerSet's at "
        f"{lws_qps}, the operator without one"
    )


def _cells(turn: Turn) -> list[str]:
    writes = sum(turn.writes.values()) / turn.size
    grown = max(0, turn.peak - turn.idle) / max(1, turn.pods) / 1e3
    reads, cpu = sum(turn.reads.values()), turn.cpu / turn.size * 1000
    return [f"{writes:.1f}", f"{reads}", f"{cpu:.1f}", f"{turn.peak / 1e6:.0f}", f"{grown:.1f}"]


def page(turns: Sequence[Turn], rests: Sequence[Steady], *, limits: str, nodes: int) -> str:
    """What stands between the marks of the page."""
    out = [
        f"{time.strftime('%Y-%m-%d')}; {os.cpu_count()} cores for everything; Kubernetes {KUBERNETES}, "
        f"KubeRay {KUBERAY}, "
        f"LeaderWorkerSet {LWS}; {nodes} fake nodes; {limits}.",
        "",
        "| way | layout | size | pods | seconds to Ready | writes each | reads | CPU each | peak memory | "
        "per pod | cores busy |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for turn in turns:
        cells = _cells(turn) if turn.subject != "direct" else ["-"] * 5
        units = ["", "", " ms", " MB", " KB"]
        cells = [cell if cell == "-" else cell + unit for cell, unit in zip(cells, units, strict=True)]
        out.append(
            f"| {NAMES[turn.subject]} | {turn.layout} | {turn.size} | {turn.pods} | {turn.seconds:.1f} | "
            + " | ".join(cells)
            + f" | {turn.cores.share * 100:.0f} % |"
        )
    out += ["", "| OmniDeployment | goal | measured | |", "|---|---|---|---|"]
    done: set[tuple[str, int]] = set()
    for turn in _last_of_each(turns, "operator"):
        done.add((turn.layout, turn.size))
        for goal in goals(turn, ratio(turns, turn.layout, turn.size)):
            out.append(_goal_row(f"{turn.size}, {turn.layout}", goal))
    for rest in rests:
        out += [_goal_row(f"{rest.size}, at rest", goal) for goal in steady_goals(rest)]
    out += ["", "Writes each, by verb and kind:", ""]
    for subject in ("operator", "kuberay", "lws"):
        for turn in _last_of_each(turns, subject):
            out.append(f"- {NAMES[subject]}, {turn.size}, {turn.layout}: {each(turn.writes, turn.size)}")
    out += ["", "What bounded the time:", ""]
    for subject, name in NAMES.items():
        for turn in _last_of_each(turns, subject):
            out.append(f"- {name}, {turn.size}, {turn.layout}: {limit(turn)}; used by {turn.cores.words()}")
    for rest in rests:
        out += ["", at_rest(rest)]
    return "\n".join(out) + "\n"


def at_rest(rest: Steady) -> str:
    """A sentence about the time after."""
    words = [
        f"{who}'s manager made {sum(rest.writes[user].values())} writes and {sum(rest.reads[user].values())} reads "
        f"and used {rest.cpu[user] / rest.seconds * 100:.2f} % of a core"
        for user, who in (("operator", "the operator"), ("kuberay", "KubeRay"))
        if user in rest.writes
    ]
    text = f"At rest with {rest.size} ({rest.pods} pods), in {rest.seconds:.0f} s: {'; '.join(words)}."
    return text.replace("the operator's manager", "the operator")


def write(path: Path, text: str) -> None:
    """Puts the figures between the page's marks.

    Raises:
        ValueError: The page lacks them.
    """
    head, found, rest = path.read_text().partition(MARKS[0])
    _, end, tail = rest.partition(MARKS[1])
    if not (found and end):
        msg = f"{path} lacks the lines {MARKS}"
        raise ValueError(msg)
    path.write_text(f"{head}{MARKS[0]}\n{text}\n{MARKS[1]}{tail}")


def _goal_row(which: str, goal: Goal) -> str:
    return f"| {which}: {goal.what} | {goal.wanted} | {goal.value} | {'met' if goal.met else '**not met**'} |"


def _last_of_each(turns: Sequence[Turn], subject: str) -> list[Turn]:
    return list({(t.layout, t.size): t for t in turns if t.subject == subject}.values())
