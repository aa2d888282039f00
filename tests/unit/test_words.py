"""No retired word in names, comments, documents and messages: one term per idea.

`python -m tests.unit.test_words [PATH ...]` lists every hit as `path:line: word -> term`, pending
parts included; with --count it prints the number of hits of each file.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePath

import pytest

from tests.unit.retired_words import EXCEPTIONS, PENDING, RETIRED, Allowed, Retired

ROOT = Path(__file__).parent.parent.parent
SCANNED = (
    "operator/*", "tests/*", "e2e/*", "bench/*", "hack/*", "docs/*", "charts/*", "manifests/*", "examples/*",
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "STYLE.md",
    "Makefile", "Dockerfile", "pyproject.toml",
)  # fmt: skip
NOT_SCANNED = (
    "tests/unit/test_words.py", "tests/unit/retired_words.py",
    "tests/golden/*", "tests/snapshots/*", "docs/images/*", "charts/omni-operator/files/*",  # generated
    "operator/omni_operator/engine/pipelines/*", "hack/pipeline_table.yaml",  # facts of the engine's releases
    "*.sum", "*.mod", "*.txt", "*LICENSE*",
)  # fmt: skip
_QUOTES_RETIRED_STYLE = "- Don't: "  # in STYLE.md
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_REPLACED = re.compile(r"\{[^{}\n]*\}")  # a replacement field of an f-string


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """A retired word in a file; line 0 is the path itself."""

    path: str
    line: int
    word: str
    term: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word} -> {self.term}   [{self.text}]"


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that Python code defines."""

    line: int
    text: str
    kind: str  # type, function or name
    member: bool


def scan_names(source: str, path: str = "operator/omni_operator/planning/x.py") -> Iterator[tuple[int, str, Retired]]:
    """Line, name and entry for every name defined by Python code that is retired."""
    for name in _names(ast.parse(source)):
        plain = name.text.strip("_").lower()
        padded = f"_{'_'.join(_CAMEL.sub('_', name.text).strip('_').lower().split('_'))}_"
        for entry in RETIRED:
            if re.match(entry.names_in, path) and (
                plain in entry.names
                or any(f"_{part}_" in padded for part in entry.parts)
                or (name.member and plain in entry.members)
                or (name.kind == "function" and plain in entry.functions)
                or (name.kind != "function" and name.text.strip("_") in entry.types)
            ):
                yield name.line, name.text, entry


def _names(node: ast.AST, *, in_class: bool = False) -> Iterator[_Name]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.ClassDef():
                yield _Name(child.lineno, child.name, "type", in_class)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield _Name(child.lineno, child.name, "function", in_class)
            case ast.arg():
                yield _Name(child.lineno, child.arg, "name", member=False)
            case ast.Name(ctx=ast.Store()):
                yield _Name(child.lineno, child.id, "name", in_class)
            case ast.Attribute(ctx=ast.Store()):
                yield _Name(child.lineno, child.attr, "name", member=True)
            case ast.alias(asname=str(asname)):
                yield _Name(child.lineno, asname, "name", member=False)
            case ast.ExceptHandler(name=str(bound)) | ast.MatchAs(name=str(bound)):
                yield _Name(child.lineno, bound, "name", member=False)
            case _:
                pass
        inner = isinstance(child, ast.ClassDef)
        statement = isinstance(child, ast.Assign | ast.AnnAssign | ast.Tuple)
        yield from _names(child, in_class=inner or (in_class and statement))


def scan_prose(text: str) -> Iterator[tuple[int, str, Retired]]:
    """Line, words and entry for every retired word in a text; a space matches a line break too."""
    for entry in RETIRED:
        if not entry.prose:
            continue
        for found in _compiled(entry.prose).finditer(text):
            yield text.count("\n", 0, found.start()) + 1, " ".join(found.group().split()), entry


@cache
def _compiled(prose: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"(?<!\\) ", r"[\\s#]+", prose), re.IGNORECASE)


def prose_of(source: str) -> str:
    """Comments and texts of Python code on their own lines, all else as blanks."""
    lines = [[" "] * len(line) for line in source.splitlines()]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in {tokenize.COMMENT, tokenize.STRING}:
            continue
        text = token.string
        if token.type == tokenize.STRING and "f" in text[: min(text.find(q) for q in "'\"" if q in text)].lower():
            text = _REPLACED.sub(lambda found: " " * len(found.group()), text)
        for number, part in enumerate(text.splitlines()):
            start = token.start[1] if number == 0 else 0
            lines[token.start[0] - 1 + number][start : start + len(part)] = part
    return "\n".join("".join(line) for line in lines)


def scan_path(path: str) -> Iterator[tuple[int, str, Retired]]:
    """Every folder and module of a path that is retired."""
    for part in PurePath(path).parts:
        stem = PurePath(part).stem.removeprefix("test_").lower()
        for entry in RETIRED:
            if stem in entry.modules:
                yield 0, part, entry


def scan(path: str) -> list[Hit]:
    """All hits of a tracked file, without those of EXCEPTIONS."""
    text = (ROOT / path).read_text()
    lines = text.splitlines()
    found = [*scan_path(path)]
    if path.endswith(".py"):
        found += [*scan_names(text, path), *scan_prose(prose_of(text))]
    else:
        if path == "STYLE.md":
            text = "\n".join("" if line.startswith(_QUOTES_RETIRED_STYLE) else line for line in lines)
        found += scan_prose(text)
    return sorted(
        {
            Hit(path, line, entry.word, entry.term, what)
            for line, what, entry in found
            if not any(_allows(each, path, entry, lines[line - 1] if line else path) for each in EXCEPTIONS)
        }
    )


def _allows(allowed: Allowed, path: str, entry: Retired, line: str) -> bool:
    return (
        allowed.word == entry.word and fnmatch(path, allowed.files) and re.search(allowed.text, line, re.I) is not None
    )


@cache
def tracked() -> tuple[str, ...]:
    """Tracked files to scan; an archive without Git has none."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    return tuple(
        path
        for path in done.stdout.splitlines()
        if any(fnmatch(path, pattern) for pattern in SCANNED)
        and not any(fnmatch(path, pattern) for pattern in NOT_SCANNED)
        and (ROOT / path).is_file()
    )


@cache
def all_hits() -> dict[str, list[Hit]]:
    """Hits by file, for files that have any."""
    return {path: found for path in tracked() if (found := scan(path))}


def pending(path: str) -> bool:
    """Whether a file belongs to a part that is not converted yet."""
    return any(fnmatch(path, pattern) for pattern in PENDING)


def test_no_retired_word() -> None:
    hits = [str(hit) for path, found in all_hits().items() if not pending(path) for hit in found]
    assert not hits, "\n".join(["retired words:", *hits])


def test_pending_parts_still_have_hits() -> None:
    clean = [pattern for pattern in PENDING if tracked() and not any(fnmatch(path, pattern) for path in all_hits())]
    assert clean == [], "remove these from PENDING in retired_words.py"


def test_every_exception_allows_something() -> None:
    for allowed in EXCEPTIONS if tracked() else ():
        files = [path for path in tracked() if fnmatch(path, allowed.files)]
        assert files, allowed
        assert any(re.search(allowed.text, (ROOT / path).read_text(), re.I | re.M) for path in files), allowed
        assert allowed.word in {entry.word for entry in RETIRED}, allowed


def test_an_entry_has_a_pattern_and_its_words_are_lower_case() -> None:
    for entry in RETIRED:
        lower = (*entry.parts, *entry.names, *entry.members, *entry.functions, *entry.modules)
        assert lower or entry.types or entry.prose, entry
        assert all(word == word.lower() for word in lower), entry
    assert max(Counter(entry.word for entry in RETIRED).values()) == 1


@pytest.mark.parametrize(
    "source",
    [
        "def sweep_node(): ...",
        "swept = 1",
        "class HTTPWitness: ...",
        "class _Ground: ...",
        "class A:\n    line: str",
        "class A:\n    def holds(self): ...",
        "def f(*, held_back): ...",
        "async def in_the_way(): ...",
        "self.bereft = ()",
        "import x as looks",
    ],
)
def test_retired_names(source: str) -> None:
    assert list(scan_names(source))


@pytest.mark.parametrize(
    "source",
    [
        "for line in text: ...",
        "for each in pods: ...",
        "lookup = free = 1",
        "wrong = usage(args)",
        "background = 1",
        "class Actor: ...",
        "x.line",
        "f(line=1)",
        "known = {}",
    ],
)
def test_other_names(source: str) -> None:
    assert not list(scan_names(source))


@pytest.mark.parametrize(
    "text",
    [
        "The operator looks at nodes.",
        "it will look\n# again",
        "at every look",
        "the story in events",
        "what the plan stands on",
        "a silent node",
        "codes (run)",
        "seen (0.16, run)",
        "in the wheel (run, 0.30)",
        "the floors of the house",
    ],
)
def test_retired_prose(text: str) -> None:
    assert list(scan_prose(text))


@pytest.mark.parametrize(
    "text",
    [
        "it looks up the name",
        "one line of text",
        "try again",
        "a free port",
        "the control plane",
        "world size 2",
        "(run it twice)",
        "each pod holds a device",
        "no ground truth",
    ],
)
def test_other_prose(text: str) -> None:
    assert not list(scan_prose(text))


def test_prose_of_python_is_comments_and_texts() -> None:
    source = 'ground = 1  # a story\nx = f"{story} told"\n'
    assert prose_of(source).split() == ["#", "a", "story", 'f"', 'told"']


def main(arguments: Sequence[str]) -> None:
    """Prints all hits, or with --count their number by file; paths select files by prefix."""
    prefixes = tuple(argument for argument in arguments if argument != "--count") or ("",)
    hits = {path: found for path, found in all_hits().items() if path.startswith(prefixes)}
    for path, found in hits.items():
        lines = [f"{len(found):4} {path}"] if "--count" in arguments else [str(hit) for hit in found]
        sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.write(f"{sum(len(found) for found in hits.values())} hits in {len(hits)} files\n")


if __name__ == "__main__":
    main(sys.argv[1:])
