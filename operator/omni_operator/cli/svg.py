"""Draws a picture as a self-contained SVG, without external fonts and scripts, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from omni_operator.cli.picture import BOXES, Arrow, ArrowKind, Box, Picture
from omni_operator.cli.rows import Level

_CELL, _ROW = 8, 20  # pixels of a cell
_CHARACTER = 7.3  # pixels of a character of the font, at most
_MARGIN = 16
_LEAST_WIDTH = 560
_BASE = 14  # from the top of a row to the base of its text
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# Without CSS variables, which not every viewer supports. A viewer without media queries uses the
# light rules.
_LIGHT = {
    ".paper": "fill: #ffffff",
    "text": "fill: #1f2328",
    ".quiet": "fill: #59636e",
    ".node rect": "fill: #f3f5f8; stroke: #9aa4af",
    ".pod rect": "fill: #ffffff; stroke: #59636e",
    ".stage rect": "fill: #e7ecf3; stroke: #1f2328",
    ".helper rect": "fill: #ffffff; stroke: #9aa4af",
    "path.shm": "stroke: #1a7f37",
    "path.rdma": "stroke: #0969da",
    "path.tcp": "stroke: #bc4c00",
    "path.server": "stroke: #6e7781",
    "polygon.shm, text.shm": "fill: #1a7f37",
    "polygon.rdma, text.rdma": "fill: #0969da",
    "polygon.tcp, text.tcp": "fill: #bc4c00",
    "polygon.server, text.server": "fill: #6e7781",
}
_DARK = {
    ".paper": "fill: #0d1117",
    "text": "fill: #e6edf3",
    ".quiet": "fill: #9198a1",
    ".node rect": "fill: #161b22; stroke: #59636e",
    ".pod rect": "fill: #0d1117; stroke: #9198a1",
    ".stage rect": "fill: #21262d; stroke: #e6edf3",
    ".helper rect": "fill: #0d1117; stroke: #59636e",
    "path.shm": "stroke: #3fb950",
    "path.rdma": "stroke: #58a6ff",
    "path.tcp": "stroke: #f0883e",
    "path.server": "stroke: #8b949e",
    "polygon.shm, text.shm": "fill: #3fb950",
    "polygon.rdma, text.rdma": "fill: #58a6ff",
    "polygon.tcp, text.tcp": "fill: #f0883e",
    "polygon.server, text.server": "fill: #8b949e",
}
_FORM = (
    "text { font-size: 12px; white-space: pre }",
    ".bold { font-weight: bold }",
    "path { fill: none; stroke-width: 2.5 }",
    "path.shm { stroke-width: 4 }",
    "path.tcp { stroke-dasharray: 7 3 }",
    "path.server { stroke-dasharray: 2 3 }",
)


def draw(picture: Picture, *, title: str, about: str) -> str:
    """The picture with a title, a sentence about it, the legend and the notes.

    Args:
        picture: Boxes and arrows.
        title: Name of what is shown.
        about: A sentence about it, also for screen readers.
    """
    width = max(_LEAST_WIDTH, picture.width * _CELL + 2 * _MARGIN)
    lines = wrap(about, width=(width - 2 * _MARGIN) // _CELL)
    top = _MARGIN + (1 + len(lines)) * _ROW + _ROW // 2
    legend_row = top + picture.height * _ROW + _ROW // 2
    notes = [line for note in picture.notes for line in wrap(note, width=(width - 2 * _MARGIN) // _CELL)]
    height = legend_row + (1 + len(notes)) * _ROW + _MARGIN
    root = _root(width, height)
    SubElement(root, "title", id="picture-title").text = title
    SubElement(root, "desc", id="picture-about").text = " ".join([about + ".", *(f"{a.hint}." for a in picture.arrows)])
    SubElement(root, "style").text = _style()
    SubElement(root, "rect", {"class": "paper", "width": str(width), "height": str(height)})
    _text(root, title, x=_MARGIN, y=_MARGIN + _BASE, kind="bold")
    _lines(root, lines, y=_MARGIN + _ROW)
    drawing = SubElement(root, "g", transform=f"translate({_MARGIN} {top})")
    for box in picture.boxes:
        _box(drawing, box)
    for arrow in picture.arrows:
        _arrow(drawing, arrow)
    _legend(root, picture.legend, y=legend_row)
    _lines(root, notes, y=legend_row + _ROW)
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _root(width: int, height: int) -> Element:
    return Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "role": "img",
            "aria-labelledby": "picture-title picture-about",
            "font-family": _FONT,
        },
    )


def _style() -> str:
    light = [f"{what} {{ {rule} }}" for what, rule in _LIGHT.items()]
    dark = [f"{what} {{ {rule} }}" for what, rule in _DARK.items()]
    return "\n".join(["", *light, *_FORM, "@media (prefers-color-scheme: dark) {", *dark, "}", ""])


def _text(parent: Element, text: str, *, x: float, y: float, kind: str = "") -> None:
    SubElement(parent, "text", {"x": f"{x:g}", "y": f"{y:g}", **({"class": kind} if kind else {})}).text = text


def _lines(parent: Element, lines: Sequence[str], *, y: int) -> None:
    for number, line in enumerate(lines):
        _text(parent, line, x=_MARGIN, y=y + number * _ROW + _BASE, kind="quiet")


def _box(parent: Element, box: Box) -> None:
    """Draws a box with its title below the upper border."""
    group = SubElement(parent, "g", {"class": box.level.value})
    if box.hint:
        SubElement(group, "title").text = box.hint
    stage = box.level is Level.STAGE
    top = (box.top + (0.4 if stage else 0)) * _ROW
    bottom = (box.bottom + (0.6 if stage else 0.5)) * _ROW
    left, right = (box.left + 0.5) * _CELL, (box.right + 0.5) * _CELL
    shape = {
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
        "rx": 6 if box.level is Level.NODE else 3,
    }
    SubElement(group, "rect", {key: f"{value:g}" for key, value in shape.items()})
    if box.title:
        kind = "quiet" if box.level is Level.POD else "bold"
        _text(group, box.title, x=left + 1.5 * _CELL, y=box.top * _ROW + _BASE, kind=kind)
    for number, line in enumerate(box.text, 1):
        kind = "bold" if stage else "quiet"
        _text(group, line, x=left + 1.5 * _CELL, y=(box.top + number) * _ROW + _BASE, kind=kind)


def _arrow(parent: Element, arrow: Arrow) -> None:
    group = SubElement(parent, "g")
    SubElement(group, "title").text = arrow.hint
    left, track = (arrow.left - 0.5) * _CELL, (arrow.track + 0.5) * _CELL
    start, end = (arrow.start + 0.5) * _ROW, (arrow.end + 0.5) * _ROW
    label = left + 2 * _CELL
    behind = label + len(arrow.label) * _CHARACTER + 4
    bend = 6 if end > start else -6
    path = (
        f"M{left:g} {start:g}H{label - 4:g}M{behind:g} {start:g}H{track - 6:g}q6 0 6 {bend}"
        f"V{end - bend:g}q0 {bend} -6 {bend}H{left + 9:g}"
    )
    SubElement(group, "path", {"class": arrow.kind.value, "d": path})
    head = f"{left + 1:g},{end:g} {left + 10:g},{end - 5:g} {left + 10:g},{end + 5:g}"
    SubElement(group, "polygon", {"class": arrow.kind.value, "points": head})
    _text(group, arrow.label, x=label, y=start + 4, kind=arrow.kind.value)


def _legend(parent: Element, legend: Sequence[ArrowKind], *, y: int) -> None:
    x = _MARGIN
    for kind in legend:
        SubElement(parent, "path", {"class": kind.value, "d": f"M{x} {y + 10}h28"})
        _text(parent, kind.label, x=x + 36, y=y + _BASE)
        x += 36 + (len(kind.label) + 4) * _CELL
    _text(parent, BOXES, x=x, y=y + _BASE, kind="quiet")
