"""The page of all pairs of node kinds is complete and does not depend on the nodes' order."""

from __future__ import annotations

import re
from itertools import combinations_with_replacement

import pytest

from hack.node_pairs import KINDS, PIPELINES, Kind, Pipeline, cell, found, notes, page
from omni_operator.planning.model import Planned

PAIRS = list(combinations_with_replacement(KINDS, 2))


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.title.partition(":")[0])
def test_the_order_of_two_nodes_does_not_matter(pipeline: Pipeline) -> None:
    for one, other in PAIRS:
        assert found(pipeline, one, other) == found(pipeline, other, one), (one.name, other.name)


def test_every_table_has_all_pairs_and_every_note_is_used() -> None:
    _, *tables = page().split("\n## ")
    assert len(tables) == len(PIPELINES)
    for table in tables:
        _, _, *rows = [line for line in table.splitlines() if line.startswith("|")]
        cells = [text.strip() for row in rows for text in row.strip("|").split("|")[1:]]
        assert len(cells) == len(KINDS) ** 2 >= 64
        assert all(cells)
        numbered = [int(number) for number in re.findall(r"^(\d+)\. `?\w", table, flags=re.MULTILINE)]
        assert numbered == sorted({int(n) for text in cells for n in re.findall(r"\[(\d+)\]", text)})


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.title.partition(":")[0])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_less_than_the_best_is_explained(pipeline: Pipeline, kind: Kind) -> None:
    for other in KINDS:
        result = found(pipeline, kind, other)
        best = isinstance(result, Planned) and result.plan.transport.endswith(("shm", "/rdma")) and not result.waits_for
        assert bool(notes(result)) != best, cell(result)
