"""Draws a picture with box-drawing characters.

Arrows differ in form as well as in colour, for terminals and pipes without colours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

from rich.text import Text

from omni_operator.cli.picture import BOXES, Arrow, ArrowKind, Box, Picture
from omni_operator.cli.rows import Level

COLOUR = {
    ArrowKind.SHM: "green",
    ArrowKind.RDMA: "dodger_blue1",
    ArrowKind.TCP: "dark_orange",
    ArrowKind.SERVER: "bright_black",
}

_STYLE = {Level.NODE: "dim", Level.POD: "", Level.STAGE: "bold", Level.HELPER: "dim"}
_TITLE = {Level.NODE: "bold", Level.POD: "", Level.STAGE: "bold", Level.HELPER: ""}
_CORNERS = {Level.NODE: "╭╮╰╯", Level.POD: "┌┐└┘", Level.STAGE: "┌┐└┘", Level.HELPER: "┌┐└┘"}


@dataclass(frozen=True, slots=True)
class _Strokes:
    """Characters of an arrow; `cross` is where it crosses a border."""

    along: str
    down: str
    upper: str
    lower: str
    start: str
    cross: str


_STROKES = {
    ArrowKind.SHM: _Strokes("═", "║", "╗", "╝", "╞", "╪"),
    ArrowKind.RDMA: _Strokes("━", "┃", "┓", "┛", "┝", "┿"),
    ArrowKind.TCP: _Strokes("─", "│", "┐", "┘", "├", "┼"),
    ArrowKind.SERVER: _Strokes("╌", "╎", "┐", "┘", "├", "┼"),
}
_VERTICAL = {"│", "┼", "╪", "┿"}


@dataclass(slots=True)
class _Sheet:
    """Cells with a character and a style each."""

    width: int
    height: int
    cells: list[list[tuple[str, str]]] = field(init=False)

    def __post_init__(self) -> None:
        self.cells = [[(" ", "")] * self.width for _ in range(self.height)]

    def put(self, column: int, row: int, text: str, style: str) -> None:
        """Writes a text from a cell to the right."""
        for offset, character in enumerate(text):
            self.cells[row][column + offset] = (character, style)

    def text(self) -> Text:
        """All rows, with one span for neighbours of the same style."""
        out = Text()
        for row in self.cells:
            line = Text()
            for style, cells in groupby(row, key=lambda cell: cell[1]):
                line.append("".join(character for character, _ in cells), style=style)
            line.rstrip()
            out.append_text(line).append("\n")
        return out


def draw(picture: Picture) -> Text:
    """The picture and, below it, the legend and the notes."""
    sheet = _Sheet(picture.width, picture.height)
    for box in picture.boxes:
        _box(sheet, box)
    for arrow in sorted(picture.arrows, key=lambda a: -a.track):
        _vertical(sheet, arrow)
    for arrow in picture.arrows:
        _horizontal(sheet, arrow)
    out = sheet.text()
    for kind in picture.legend:
        strokes = _STROKES[kind]
        out.append(strokes.along * 3, style=COLOUR[kind]).append(f" {kind.label}   ")
    out.append(f"{BOXES}\n")
    for note in picture.notes:
        out.append(f"{note}\n", style="dim")
    return out


def _box(sheet: _Sheet, box: Box) -> None:
    style, corners = _STYLE[box.level], _CORNERS[box.level]
    inner = "─" * (box.right - box.left - 1)
    sheet.put(box.left, box.top, corners[0] + inner + corners[1], style)
    sheet.put(box.left, box.bottom, corners[2] + inner + corners[3], style)
    for row in range(box.top + 1, box.bottom):
        sheet.put(box.left, row, "│", style)
        sheet.put(box.right, row, "│", style)
    if box.title:
        sheet.put(box.left + 1, box.top, f" {box.title} ", _TITLE[box.level])
    for offset, line in enumerate(box.text, 1):
        sheet.put(box.left + 2, box.top + offset, line, _TITLE[box.level])


def _vertical(sheet: _Sheet, arrow: Arrow) -> None:
    strokes, style = _STROKES[arrow.kind], COLOUR[arrow.kind]
    first, last = sorted((arrow.start, arrow.end))
    for row in range(first + 1, last):
        sheet.put(arrow.track, row, strokes.down, style)
    sheet.put(arrow.track, first, strokes.upper, style)
    sheet.put(arrow.track, last, strokes.lower, style)


def _horizontal(sheet: _Sheet, arrow: Arrow) -> None:
    """Draws the horizontal parts, which cross borders and vertical parts of other arrows."""
    strokes, style = _STROKES[arrow.kind], COLOUR[arrow.kind]
    for row in (arrow.start, arrow.end):
        for column in range(arrow.left, arrow.track):
            crossed = sheet.cells[row][column][0] in _VERTICAL
            sheet.put(column, row, strokes.cross if crossed else strokes.along, style)
    sheet.put(arrow.left - 1, arrow.start, strokes.start, _STYLE[Level.STAGE])
    sheet.put(arrow.left + 1, arrow.start, f" {arrow.label} ", style)
    sheet.put(arrow.left, arrow.end, "◀", style)
