"""Pure reading of what engines say of their edges.

Counters on a page of metrics, and lines of a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

from omni_operator.controller.state.signals import EdgeKey, Fallback

_LONGEST_LINE = 300


def counted_edges(metrics: str, counter: re.Pattern[str]) -> frozenset[EdgeKey]:
    """Edges that a server's metrics count a payload for.

    Args:
        metrics: The page, a Prometheus exposition.
        counter: Names of the counters, which have the labels from_stage and to_stage
            (vllm_omni/metrics, 0.22 on).

    Raises:
        ValueError: The text is no Prometheus exposition.
    """
    found = set()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            ends = sample.labels.get("from_stage", ""), sample.labels.get("to_stage", "")
            if sample.value > 0 and counter.fullmatch(sample.name) and all(end.isdecimal() for end in ends):
                found.add((int(ends[0]), int(ends[1])))
    return frozenset(found)


def rdma_fallback(pod: str, log: str, patterns: Iterable[re.Pattern[str]]) -> Fallback | None:
    """The line of a pod's log that says RDMA is not used, if there is one."""
    known = tuple(patterns)
    found = next((line for line in log.splitlines() if any(each.search(line) for each in known)), None)
    return None if found is None else Fallback(pod=pod, text=found.strip()[:_LONGEST_LINE])
