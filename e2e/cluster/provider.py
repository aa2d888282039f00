"""The container engine below kind: podman or docker.

Podman's defaults do not fit nodes that run hundreds of processes, so it gets a configuration of its
own through CONTAINERS_CONF; nothing under /etc is touched. Everyone who runs podman for this
project should use `environment()`.
"""

import contextlib
import functools
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from e2e.cluster import cache, debian, shell

# iptables: netavark's firewall; runc: crun refuses hosts that mount cgroup v1 and v2 side by side
PODMAN_PACKAGES = ("podman", "runc", "netavark", "aardvark-dns", "iptables", "ca-certificates")


@functools.cache
def name() -> str:
    """Return "docker" or "podman": E2E_PROVIDER, or docker if its daemon answers, or podman.

    Raises:
        ValueError: E2E_PROVIDER is something else.
    """
    chosen = os.environ.get("E2E_PROVIDER", "")
    if chosen not in {"", "docker", "podman"}:
        raise ValueError(f"E2E_PROVIDER={chosen}: must be docker or podman")
    if not chosen:
        chosen = "docker" if shutil.which("docker") and shell.succeeds(["docker", "info"], timeout=20) else "podman"
    if chosen == "podman":
        debian.install(PODMAN_PACKAGES)
    return chosen


@functools.cache
def environment() -> dict[str, str]:
    """Return the variables for podman, and for kind on podman (for docker: only kind's own)."""
    env = {"KIND_EXPERIMENTAL_PROVIDER": name()}
    if name() == "podman":
        env["CONTAINERS_CONF"] = str(_configuration())
    return env


def run(*args: str, stdin: str | None = None, timeout: float | None = None) -> str:
    """Run the engine with `args` and return its output.

    Raises:
        shell.CommandError: it failed.
    """
    return shell.run([name(), *args], env=environment(), stdin=stdin, timeout=timeout)


def succeeds(*args: str) -> bool:
    """Whether the engine's command `args` ends with 0."""
    return shell.succeeds([name(), *args], env=environment(), timeout=120)


def popen(args: Sequence[str], *, stdin: int | None = None, stdout: int | None = None) -> "subprocess.Popen[bytes]":
    """Start the engine with `args`, its standard error caught, for streaming."""
    env = {**os.environ, **environment()}
    return subprocess.Popen([name(), *args], env=env, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)


def feed(args: Sequence[str], write: Callable[[IO[bytes]], None]) -> None:
    """Run the engine's command `args` with the output of `write` as its input; closes the pipe.

    Raises:
        shell.CommandError: the command failed, also if it closed the pipe early.
    """
    with popen(args, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        whole = False
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            write(pipe)
            pipe.flush()
            whole = True
        errors = process.stderr.read().decode(errors="replace")
    if process.returncode or not whole:
        raise shell.CommandError([name(), *args], process.returncode or 1, errors)


def image_id(image: str) -> str | None:
    """Return the image's id (64 hex digits), or None if the engine does not hold it."""
    try:
        found = run("image", "inspect", "--format", "{{.Id}}", image).strip()
    except shell.CommandError:
        return None
    return found.removeprefix("sha256:")


def import_folder(root: Path, image: str, *changes: str) -> None:
    """Make a one-layer image of the folder `root`; `changes` are Dockerfile instructions.

    Raises:
        shell.CommandError: the engine refused.
    """
    args = [word for change in changes for word in ("--change", change)]
    pack = subprocess.Popen(["tar", "--numeric-owner", "-C", root, "-c", "."], stdout=subprocess.PIPE)
    assert pack.stdout is not None
    take = popen(["import", *args, "-", image], stdin=pack.stdout.fileno(), stdout=subprocess.DEVNULL)
    pack.stdout.close()  # so that tar ends when the engine does
    _, errors = take.communicate()
    if pack.wait() or take.returncode:
        raise shell.CommandError([name(), "import", image], take.returncode or 1, errors.decode(errors="replace"))


def forget_older(repository: str, keep: int = cache.KEEP) -> list[str]:
    """Remove all but the `keep` newest tags of `repository` and those in use; returns them."""
    rows = run("images", "--format", "{{.CreatedAt}}|{{.Repository}}:{{.Tag}}", repository).splitlines()
    removed = []
    for row in sorted(rows, reverse=True)[keep:]:
        image = row.split("|", 1)[1]
        if not image.endswith(":<none>") and succeeds("rmi", image):
            removed.append(image)
    return removed


def _configuration() -> Path:
    def limit(kind: int, ceiling: int) -> int:
        hard = resource.getrlimit(kind)[1]  # raising a hard limit needs CAP_SYS_RESOURCE, which may be missing
        return ceiling if hard == resource.RLIM_INFINITY else min(hard, ceiling)

    files = limit(resource.RLIMIT_NOFILE, 1048576)
    # podman lowers its own hard limit to pid_max, so containers cannot get more either
    processes = limit(resource.RLIMIT_NPROC, int(Path("/proc/sys/kernel/pid_max").read_text()))
    text = f"""# written by e2e/cluster/provider.py
[containers]
pids_limit = 0
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
"""
    path = cache.folder("podman") / "containers.conf"
    if not path.exists() or path.read_text() != text:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as handle:
            handle.write(text)
        Path(handle.name).chmod(0o644)
        Path(handle.name).rename(path)
    return path
