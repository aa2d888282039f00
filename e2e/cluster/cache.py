"""Where built things live.

Everything that is built here is a pure function of its inputs, so it is stored outside the checkout
under a key made of those inputs: a second checkout, or a branch switch and back, finds it again.
Each kind of thing keeps its two newest keys.
"""

import ast
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

KEEP = 2  # the one in use and the one before it, so switching between two branches rebuilds nothing


def root() -> Path:
    """Return the cache root, which is created if missing.

    It is `${OMNI_CACHE:-${XDG_CACHE_HOME:-~/.cache}/omni-operator}`.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    path = Path(os.environ.get("OMNI_CACHE") or Path(base) / "omni-operator")
    path.mkdir(parents=True, exist_ok=True)
    return path


def folder(*names: str) -> Path:
    """Return a folder below the cache root; it is created if missing."""
    path = root().joinpath(*names)
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(*parts: str | bytes) -> str:
    """Return 12 hex digits that stand for `parts`; their order and their borders count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]


def code(path: str) -> str:
    """Return the syntax tree of the Python file at `path`: a formatter does not change a key."""
    return ast.dump(ast.parse(Path(path).read_text()))


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the machine-wide lock `name`; two processes never build the same thing at once."""
    with (folder("locks") / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty folder on the cache's disk, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=root()) as name:
        yield Path(name)


def prune_scratch() -> list[Path]:
    """Remove scratch folders that a killed process left more than a day ago; returns them."""
    old = [path for path in root().glob("scratch-*") if path.stat().st_mtime < time.time() - 86400]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return old


def touch(path: Path) -> None:
    """Mark `path` as used now, which is what `prune` orders by."""
    os.utime(path)


def prune(parent: Path, prefix: str, keep: int = KEEP) -> list[Path]:
    """Remove all folders `<parent>/<prefix>-*` but the `keep` newest; returns what was removed."""
    found = [p for p in parent.glob(f"{prefix}-*") if p.name.removeprefix(f"{prefix}-").count("-") == 0]
    old = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]
    for path in old:
        shutil.rmtree(path)
    return old
