"""The Go programs of the cluster, one small Go module per component under go/.

There is no registry to take images from, but every component of a Kubernetes node is also published
as a Go module. Each folder go/<name>/ pins one component (go.mod, `tool` lines) and everything
below it (go.sum), so a build is reproducible and checked, and a component's dependencies never push
another's. To move a version: `go get -tool <package>@<version>` in that folder (for Kubernetes also
change its `replace` lines: its own go.mod replaces the staging modules by folders, which a module
outside its repository cannot; the published v0.X of the same release stand in for them).
"""

import dataclasses
from pathlib import Path

FOLDER = Path(__file__).with_name("go")
KUBERNETES = "1.36.3"
KUBERAY = "1.6.2"
LWS = "0.8.0"
KUBE_ROUTER = "2.1.0"
_CNI = "github.com/containernetworking/plugins/plugins"
_VERSION = "k8s.io/component-base/version"


@dataclasses.dataclass(frozen=True, slots=True)
class GoModule:
    """One folder under go/.

    Attributes:
        name: the folder.
        packages: Go package of each program; its last element (without a /vN) is the program's name
            unless `rename` says so.
        tags: Go build tags.
        variables: linker variables (`-X`), as in the component's own release build.
        cgo: whether it needs the C compiler.
        rename: program name by package.
        files: what else is taken out of the component's module: destination in the built folder ->
            (module, path in it).
    """

    name: str
    packages: tuple[str, ...]
    tags: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    cgo: bool = False
    rename: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str, str], ...] = ()

    def program(self, package: str) -> str:
        """Return the file name of the program built from `package`."""
        return dict(self.rename).get(package, package.rsplit("/", 1)[-1])

    def programs(self) -> tuple[str, ...]:
        """Return the file names of all programs of the module."""
        return tuple(self.program(package) for package in self.packages)


MODULES = (
    GoModule(
        name="kubernetes",
        packages=tuple(
            f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubeadm", "kube-proxy", "kubectl",
            )
        ),
        variables=(
            f"{_VERSION}.gitVersion=v{KUBERNETES}",
            f"k8s.io/client-go/pkg/version.gitVersion=v{KUBERNETES}",
            f"{_VERSION}.gitMajor=1",
            f"{_VERSION}.gitMinor={KUBERNETES.split('.')[1]}",
            f"{_VERSION}.gitTreeState=clean",
        ),
        files=(("pause.c", "k8s.io/kubernetes", "build/pause/linux/pause.c"),),
    ),
    GoModule(name="etcd", packages=("go.etcd.io/etcd/server/v3",), rename=(("go.etcd.io/etcd/server/v3", "etcd"),)),
    GoModule(
        name="containerd",
        packages=(
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/ctr",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            f"{_CNI}/ipam/host-local",
            f"{_CNI}/main/loopback",
            f"{_CNI}/main/ptp",
            f"{_CNI}/meta/portmap",
        ),
        tags=("no_aufs", "no_zfs", "no_btrfs", "no_devmapper"),
        variables=("github.com/containerd/containerd/v2/version.Version=v2.2.9",),
    ),
    GoModule(name="crictl", packages=("sigs.k8s.io/cri-tools/cmd/crictl",)),
    GoModule(
        name="runc",
        packages=("github.com/opencontainers/runc",),
        tags=("seccomp",),
        variables=("main.version=1.4.3",),
        cgo=True,
    ),
    GoModule(name="coredns", packages=("github.com/coredns/coredns",)),
    GoModule(
        name="kind",
        packages=("sigs.k8s.io/kind",),
        files=(("base", "sigs.k8s.io/kind", "images/base/files"),),
    ),
    GoModule(
        name="kuberay",
        packages=("github.com/ray-project/kuberay/ray-operator",),
        files=(("crds", "github.com/ray-project/kuberay/ray-operator", "config/crd/bases"),),
    ),
    GoModule(
        name="lws",
        packages=("sigs.k8s.io/lws/cmd",),
        rename=(("sigs.k8s.io/lws/cmd", "lws-manager"),),
        files=(("crds", "sigs.k8s.io/lws", "config/crd/bases"), ("role.yaml", "sigs.k8s.io/lws", "config/rbac/role.yaml")),
    ),
    GoModule(
        name="kube-router",
        packages=("github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",),
        variables=(f"github.com/cloudnativelabs/kube-router/v2/pkg/version.Version=v{KUBE_ROUTER}",),
    ),
    GoModule(name="helm", packages=("helm.sh/helm/v3/cmd/helm",)),
    GoModule(
        name="kwok",
        packages=("sigs.k8s.io/kwok/cmd/kwok",),
        files=(("stage", "sigs.k8s.io/kwok", "kustomize/stage"),),
    ),
)  # fmt: skip


def owner(program: str) -> GoModule:
    """Return the module that builds `program`.

    Raises:
        LookupError: none does; the message lists what there is.
    """
    for module in MODULES:
        if program in module.programs():
            return module
    known = sorted(name for module in MODULES for name in module.programs())
    raise LookupError(f"no module builds {program!r}; known: {', '.join(known)}")


def module(name: str) -> GoModule:
    """Return the module called `name`.

    Raises:
        LookupError: there is none.
    """
    for found in MODULES:
        if found.name == name:
            return found
    raise LookupError(f"no Go module {name!r} under {FOLDER.name}/")
