"""The page of failures is read and written by one program, which may inject some faults only."""

from __future__ import annotations

from e2e.failures.__main__ import PAGE, known_rows, page


def test_rows_that_were_not_rerun_stay() -> None:
    text = PAGE.read_text()
    assert page(known_rows(text)) == text
    known = known_rows(text)
    title = next(iter(known))
    part = next(iter(known[title]))
    known[title][part] = (f"| {part} | 1 s | `X` | 2 s | 2 s | 3 | 0 | 2026-01-01 |", "a word: and another")
    reread = known_rows(page(known))
    assert reread == known
    assert sum(len(rows) for rows in reread.values()) == sum(len(rows) for rows in known_rows(text).values())
