"""Debian packages of this machine, and Debian root file systems for images.

Images are made from Debian packages because a package mirror is what this machine has: the mirror
is read from its own apt sources when it is needed, never written down here, and is not left behind
in the images either.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from e2e.cluster import shell

SUITE = "bookworm"  # the last Debian whose systemd still runs on a cgroup v1 host
_NEEDLESS = ("doc", "man", "info", "locale", "lintian", "bash-completion", "zoneinfo/right")


def install(packages: Iterable[str]) -> None:
    """Install those of `packages` that this machine lacks.

    Raises:
        shell.CommandError: apt-get failed (not root, no mirror ...).
    """
    missing = [name for name in packages if not _installed(name)]
    if not missing:
        return
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with shell.step(f"installing Debian packages: {' '.join(missing)}"):
        shell.run(["apt-get", "update", "-qq"], env=quiet)
        shell.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env=quiet)


def bootstrap(root: Path, packages: Iterable[str]) -> None:
    """Make `root` a minimal Debian with `packages`, without documentation and local settings.

    Raises:
        shell.CommandError: debootstrap failed; the end of its log is in the message.
        LookupError: the machine's apt sources name no Debian mirror.
    """
    install(("debootstrap", "debian-archive-keyring"))
    argv = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, str(root), _mirror()]
    try:
        shell.run(argv, env=_proxy())
    except shell.CommandError as error:
        log = root / "debootstrap" / "debootstrap.log"
        raise shell.CommandError(argv, error.code, error.output + (log.read_text() if log.exists() else "")) from error
    _clean(root)


def _installed(name: str) -> bool:
    try:
        return shell.run(["dpkg-query", "-W", "-f=${db:Status-Abbrev}", name]).startswith("ii")
    except shell.CommandError:  # dpkg has no record of it
        return False


def _mirror() -> str:
    targets = shell.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    )
    rows = [line.split() for line in targets.splitlines()]
    # a machine of a later Debian has no bookworm line, but its mirror carries bookworm too
    rank = {SUITE: 0, "trixie": 1, "stable": 1, "testing": 2, "sid": 2}
    found = sorted((rank[row[0]], row[2]) for row in rows if len(row) == 3 and row[0] in rank and row[1] == "main")
    if not found:
        raise LookupError("the apt sources of this machine name no Debian mirror (wanted: a line for bookworm main)")
    return found[0][1].rstrip("/")


def _proxy() -> dict[str, str]:
    value = shell.run(["apt-config", "shell", "proxy", "Acquire::http::Proxy"]).strip()
    return {"http_proxy": value.removeprefix("proxy=").strip("'\"")} if value else {}


def _clean(root: Path) -> None:
    for name in _NEEDLESS:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    for folder in ("var/cache/apt", "var/lib/apt/lists", "var/cache/debconf", "var/log", "tmp"):
        for path in (root / folder).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    # debootstrap copies these from the host: whoever runs the image brings its own
    (root / "etc/apt/sources.list").write_text("")
    (root / "etc/resolv.conf").write_text("")
    (root / "etc/hostname").write_text("localhost\n")
