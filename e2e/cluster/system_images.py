"""The images that a node is born with, made from the built programs under the names kubeadm asks for.

The tags are kubeadm's, the programs are those of modules.py: etcd and coredns may be a patch release newer than their tag.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from e2e.cluster import binaries, shell
from e2e.cluster.archive import Image
from e2e.cluster.modules import KUBE_ROUTER, KUBERNETES

SANDBOX = "registry.k8s.io/pause:3.10"  # the name in kind's containerd configuration
_PLAIN = {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"}
# what a program that writes packet filter rules runs; nft, because kernels stop offering the legacy tables
_MULTI_CALL = "usr/sbin/xtables-nft-multi"
_RULE_NAMES = [f"ip{six}tables{what}" for six in ("", "6") for what in ("", "-save", "-restore")]


def images(debian_root: Path) -> Iterator[Image]:
    """Yield the images; `debian_root` is the Debian folder that iptables is taken from.

    Raises:
        LookupError: kubeadm wants an image that nothing here makes.
    """
    for name in _wanted():
        short = _short(name)
        if short in _PLAIN:
            yield Image(names=(name,), files={f"usr/local/bin/{short}": binaries.ensure(short)})
        elif short == "coredns":
            yield Image(names=(name,), files={"coredns": binaries.ensure("coredns")}, entrypoint=("/coredns",))
        elif short == "kube-proxy":
            yield with_iptables(name, binaries.ensure("kube-proxy"), debian_root)
        elif short == "pause":
            yield Image(names=(SANDBOX,), files={"pause": binaries.pause()}, entrypoint=("/pause",))
        else:
            raise LookupError(f"kubeadm wants {name}, and no module here builds {short}")
    yield with_iptables(kube_router_name(), binaries.ensure("kube-router"), debian_root)


def kube_router_name() -> str:
    """Return the name of the image that enforces NetworkPolicies."""
    return f"localhost/omni-e2e/kube-router:v{KUBE_ROUTER}-{binaries.key('kube-router')}"


def control_plane_names() -> list[str]:
    """Return the names of the images that only a control plane node runs."""
    return [name for name in _wanted() if _short(name) in _PLAIN]


def with_iptables(name: str, program: Path, debian_root: Path) -> Image:
    """Return an image of `program` (under /usr/local/bin) with iptables, ipset and conntrack beside it.

    Their libraries are copied one by one: a whole Debian would be stored by every node of the cluster.
    """
    tools = [_MULTI_CALL, "usr/sbin/ipset", "usr/sbin/conntrack"]
    files = {f"usr/local/bin/{program.name}": program}
    files |= {tool: debian_root / tool for tool in tools}
    extensions = {
        str(path.relative_to(debian_root)): path for path in debian_root.glob("usr/lib/*/xtables/lib[ix]*.so")
    }
    files |= extensions
    files |= {path: _inside(debian_root, path) for path in _libraries(debian_root, [*tools, *extensions])}
    links = {f"usr/sbin/{rule}": "xtables-nft-multi" for rule in _RULE_NAMES}
    return Image(names=(name,), files=files, links=links, entrypoint=(f"/usr/local/bin/{program.name}",))


def _wanted() -> list[str]:
    kubeadm = str(binaries.ensure("kubeadm"))
    return shell.run([kubeadm, "config", "images", "list", f"--kubernetes-version=v{KUBERNETES}"]).split()


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(":", maxsplit=1)[0]


def _libraries(root: Path, files: Sequence[str]) -> list[str]:
    words = shell.run(["chroot", str(root), "ldd", *(f"/{file}" for file in files)]).split()
    return sorted({word.lstrip("/") for word in words if word.startswith("/") and not word.endswith(":")})


def _inside(root: Path, path: str) -> Path:
    # /lib is a link to usr/lib, and its libraries link to their versions: resolve as the chroot would
    found = (root / path).resolve()
    return found if found.is_relative_to(root.resolve()) else root / str(found).lstrip("/")
