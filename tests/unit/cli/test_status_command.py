"""`omni status` with all, some or no conditions."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from omni_operator.cli import status_command, view

UNREADABLE = {
    "type": "Progressing",
    "status": "False",
    "reason": "RevisionUnreadable",
    "message": "run the newer operator",
}
PLANNED = {"type": "Planned", "status": "True", "reason": "PlanFits", "message": "fits"}
RAY = {"type": "RayClusterReady", "status": "False", "reason": "RayStarting", "message": "head not ready"}
READY = {"type": "Ready", "status": "False", "reason": "RayStarting", "message": "head not ready"}


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The lines that `omni status --watch` writes to a file, and the status at the end."""

    def run(*conditions: dict[str, str]) -> str:
        class Access:
            def omni(self, _: str) -> dict[str, Any]:
                spec = {"model": {"name": "m"}, "engine": {"version": "0.16.0"}}
                meta = {"namespace": "ns", "name": "omni", "generation": 1}
                return {"metadata": meta, "spec": spec, "status": {"conditions": list(conditions)}}

            def request(self, *_: str) -> dict[str, Any]:
                return {"items": []}

        access: Any = Access()
        monkeypatch.setattr(view, "console", lambda: Console(width=160))
        assert status_command.watch(access, "omni", until_ready=True, seconds=-1) == 1
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("conditions", "line"),
    [
        ((), "waiting for the operator"),
        ((UNREADABLE,), "RevisionUnreadable: run the newer operator"),
        ((PLANNED, UNREADABLE), "RevisionUnreadable: run the newer operator"),
        ((RAY, READY), "RayClusterReady: RayStarting: head not ready"),
        ((PLANNED, READY), "RayStarting: head not ready"),
    ],
)
def test_the_line_is_the_first_false_condition(show: Any, conditions: tuple[dict[str, str], ...], line: str) -> None:
    assert f" s] {line}\n" in show(*conditions)


def test_the_only_condition_is_the_next_step(show: Any) -> None:
    said = show(UNREADABLE)
    assert "next: run the newer operator" in said
    assert "not evaluated yet" in said
    assert "next: the operator has not reconciled it yet" in show()
