"""The wheels of all releases in the cache: fetched once by hash, unpacked as far as loaders read.

Run `python -m tests.loaders.wheels` to fill the cache and see where it is.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import cache

LIST = Path(__file__).with_name("wheels.txt")
NEEDED = (".py", ".yaml", ".yml", ".json")  # code and shipped configurations; the rest is assets and metadata
TRIES = 3  # a registry that drops one connection is no reason to fail a run


@dataclass(frozen=True, slots=True)
class Wheel:
    """A release as pinned in wheels.txt.

    Attributes:
        version: Such as 0.30.0.
        requirement: Its line in wheels.txt, with the hash.
    """

    version: str
    requirement: str

    @property
    def release(self) -> str:
        """The release series, such as 0.30."""
        return ".".join(self.version.split(".")[:2])


def pinned() -> tuple[Wheel, ...]:
    """All releases of wheels.txt, oldest first."""
    lines = [line.strip() for line in LIST.read_text().splitlines()]
    return tuple(Wheel(line.split()[0].split("==")[1], line) for line in lines if line and not line.startswith("#"))


def folder(wheel: Wheel) -> Path:
    """The folder that holds `vllm_omni` of a release; fetched when it is not in the cache.

    The folder appears by one rename, so an interrupted run leaves no incomplete folder.

    Raises:
        RuntimeError: The wheel cannot be fetched.
    """
    target = cache.folder("wheels") / f"{wheel.version}-{cache.key(wheel.requirement, *NEEDED)}"
    if target.is_dir():
        cache.touch(target)
        return target
    with cache.locked(f"wheel-{wheel.version}"):
        if target.is_dir():  # another process was faster
            return target
        with cache.scratch() as scratch:
            _say(f"vllm-omni {wheel.version}: fetching")
            unpacked = scratch / "unpacked"
            with zipfile.ZipFile(_download(wheel, scratch)) as archive:
                names = [n for n in archive.namelist() if n.startswith("vllm_omni/") and n.endswith(NEEDED)]
                archive.extractall(unpacked, names)
            unpacked.rename(target)
        cache.prune(cache.folder("wheels"), wheel.version)
        _say(f"vllm-omni {wheel.version}: {len(names)} files in {target}")
    return target


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _download(wheel: Wheel, into: Path) -> Path:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=into) as one:
        one.write(wheel.requirement + "\n")
        one.flush()
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command = [*pip, "--only-binary", ":all:", "--require-hashes", "-r", one.name, "-d", str(into)]
        error = ""
        for left in reversed(range(TRIES)):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return next(into.glob("*.whl"))
            error = done.stderr.strip()
            _say(f"vllm-omni {wheel.version}: pip failed, {left} tries left: {error[-300:]}")
    msg = f"vllm-omni {wheel.version} cannot be fetched: {error}"
    raise RuntimeError(msg)


if __name__ == "__main__":
    for each in pinned():
        _say(f"vllm-omni {each.version}: {folder(each)}")
