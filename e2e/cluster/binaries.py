"""Builds the Go programs of modules.py and keeps them in the cache.

Everybody who needs a program of the cluster, or etcd and kube-apiserver without a cluster, asks
`ensure`.
"""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import cache, debian, shell
from e2e.cluster.modules import FOLDER, MODULES, GoModule, module, owner

_COMPILER = ("gcc", "libc6-dev")
_RECIPE = "1"  # raise it when `_build` changes what comes out


def ensure(name: str) -> Path:
    """Return the path of the program `name`, building its Go module if the cache lacks it.

    Raises:
        LookupError: no module builds such a program.
        shell.CommandError: the build failed (see `go` for what is wanted of the machine).
    """
    return folder(owner(name).name) / name


def pause() -> Path:
    """Return the path of Kubernetes' pause program (C, static), which holds a pod's namespaces."""
    return folder("kubernetes") / "pause"


def kuberay_crds() -> list[Path]:
    """Return KubeRay's CustomResourceDefinitions, one file each."""
    return sorted((folder("kuberay") / "crds").glob("*.yaml"))


def lws_crds() -> list[Path]:
    """Return LeaderWorkerSet's CustomResourceDefinitions, one file each."""
    return sorted((folder("lws") / "crds").glob("*.yaml"))


def lws_role() -> Path:
    """Return the ClusterRole of LeaderWorkerSet's manager."""
    return folder("lws") / "role.yaml"


def kwok_stages() -> Path:
    """Return KWOK's folder of kustomize stages: node/fast, pod/fast and others."""
    return folder("kwok") / "stage"


@functools.cache
def folder(name: str) -> Path:
    """Return the folder with the programs of the Go module `name`, built if the cache lacks it.

    Raises:
        LookupError: there is no such module.
        shell.CommandError: the build failed.
    """
    found = module(name)
    target = cache.folder("bin") / f"{name}-{key(name)}"
    if not target.exists():
        with cache.locked("go"):  # two builds at once would only take each other's memory
            if not target.exists():
                _build(found, target)
                atexit.unregister(drop_build_cache)  # once is enough
                atexit.register(drop_build_cache)
        cache.prune(target.parent, name)
    cache.touch(target)
    return target


@functools.cache
def key(name: str) -> str:
    """Return the content key of the Go module `name`: sums, recipe and version of Go."""
    found = module(name)
    sums = [(FOLDER / name / file).read_bytes() for file in ("go.mod", "go.sum")]
    return cache.key(_RECIPE, *sums, *_flags(found), str(found.packages), str(found.files), _go_version())


def ensure_all(names: Sequence[str] = ()) -> dict[str, Path]:
    """Return the paths of the programs `names` (all programs of all modules if empty) by name.

    Raises:
        LookupError: no module builds one of them.
        shell.CommandError: a build failed.
    """
    wanted = names or [name for found in MODULES for name in found.programs()]
    return {name: ensure(name) for name in wanted}


def drop_build_cache() -> None:
    """Remove Go's compiled packages: gigabytes that only a new build of the same modules needs."""
    with cache.locked("go"):
        shutil.rmtree(cache.root() / "go-build", ignore_errors=True)


@functools.cache
def _go_version() -> str:
    try:
        return shell.run(["go", "env", "GOVERSION"]).strip()
    except FileNotFoundError as error:
        raise shell.CommandError(["go"], 127, "no Go on this machine: 1.26 or newer is needed") from error


def _flags(found: GoModule) -> list[str]:
    variables = "".join(f" -X {variable}" for variable in found.variables)
    tags = [f"-tags={' '.join(found.tags)}"] if found.tags else []
    return ["-mod=readonly", "-trimpath", "-buildvcs=false", *tags, f"-ldflags=-s -w{variables}", f"-cgo={found.cgo}"]


def _build(found: GoModule, target: Path) -> None:
    flags = [flag for flag in _flags(found) if not flag.startswith("-cgo=")]
    env = {
        "CGO_ENABLED": str(int(found.cgo)),
        "GOFLAGS": "",
        "GOWORK": "off",
        "GOCACHE": os.environ.get("OMNI_GOCACHE") or str(cache.folder("go-build")),
    }
    if found.cgo:
        debian.install((*_COMPILER, "libseccomp-dev", "pkg-config"))
    source = FOLDER / found.name
    scratch = Path(tempfile.mkdtemp(prefix=f".{found.name}-", dir=target.parent))
    try:
        for package in found.packages:
            with shell.step(f"building {found.program(package)}"):
                out = scratch / found.program(package)
                shell.run(["go", "build", *flags, "-o", str(out), package], env=env, cwd=source)
        for name, path, inside in found.files:
            _take(scratch / name, path, inside, source=source, env=env)
        if found.name == "kubernetes":
            debian.install(_COMPILER)
            argv = ["gcc", "-Os", "-static", "-DVERSION=3.10", "-o", str(scratch / "pause"), str(scratch / "pause.c")]
            shell.run(argv)
        scratch.chmod(0o755)
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _take(target: Path, path: str, inside: str, *, source: Path, env: dict[str, str]) -> None:
    where = shell.run(["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", path], env=env, cwd=source).strip()
    # Go's module cache is read-only; a copy with those modes could not be removed again by everyone
    subprocess.run(["cp", "-r", "--no-preserve=mode,ownership", str(Path(where) / inside), str(target)], check=True)
