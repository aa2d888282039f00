"""Runs statements of a wheel's function, because other statements of it need vLLM or a GPU."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any


def run(source: Path, *, start: str, end: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """Execute sibling statements of `source`, from one that starts with `start` to one with `end`.

    Args:
        source: The module's file.
        start: How the first statement reads, after `ast.unparse` (single quotes, no comments).
        end: A part of how the last one reads; it may be the first one itself.
        names: The variables that the statements read.

    Returns:
        All variables afterwards.

    Raises:
        LookupError: The release has no such statements; adapt the harness to the new code.
    """
    variables = dict(names)
    exec(_code(source, start, end), variables)
    return variables


@functools.cache
def _code(source: Path, start: str, end: str) -> CodeType:
    for body in _bodies(ast.parse(source.read_text())):
        texts = [ast.unparse(statement) for statement in body]
        first = next((at for at, text in enumerate(texts) if text.startswith(start)), None)
        if first is None:
            continue
        last = next((at for at in range(first, len(texts)) if end in texts[at]), None)
        if last is not None:
            return compile(ast.Module(body[first : last + 1], type_ignores=[]), str(source), "exec")
    msg = f"{source}: no statements from {start!r} to {end!r}"
    raise LookupError(msg)


def _bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """All lists of statements below `tree`, innermost included."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            found = getattr(node, field, None)
            if isinstance(found, list) and found:
                yield found
