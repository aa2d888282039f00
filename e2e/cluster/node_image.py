"""The image of a kind node, made without a registry.

What kind's own `node-image` build does, from parts that can be had: a Debian root file system, the base files out of
kind's Go module, the programs of modules.py, and the control plane's images already inside the node's containerd.
"""

import json
import os
import shutil
import time
from pathlib import Path

from e2e.cluster import archive, binaries, cache, debian, provider, shell, system_images
from e2e.cluster.modules import KUBERNETES

REPOSITORY = "localhost/omni-e2e/node"
PACKAGES = (
    "bash", "ca-certificates", "conntrack", "curl", "dbus", "e2fsprogs", "ethtool", "iproute2", "ipset", "iptables", "jq",
    "kmod", "libseccomp2", "mount", "nftables", "pigz", "procps", "socat", "systemd", "systemd-sysv", "util-linux",
)  # fmt: skip
_PARTS = ("kubernetes", "etcd", "containerd", "crictl", "runc", "coredns", "kind", "kube-router")
_PROGRAMS = {
    "usr/local/bin": ("containerd", "ctr", "containerd-shim-runc-v2", "crictl"),
    "usr/local/sbin": ("runc",),
    "opt/cni/bin": ("host-local", "loopback", "ptp", "portmap"),
    "usr/bin": ("kubeadm", "kubelet", "kubectl"),
}
_ENTRYPOINT = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
_STOP = "STOPSIGNAL SIGRTMIN+3"  # what systemd ends on; SIGTERM only costs the ten seconds until SIGKILL
_STORAGE_CLASS = """apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
"""
# systemd units that make no sense in a container; the list is that of kind's Dockerfile
_NO_UNITS = (
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/basic.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "etc/systemd/system/*.wants/*",
)


def foreign() -> bool:
    """Whether the user named a ready node image in E2E_NODE_IMAGE (then kindnet is inside it, too)."""
    return bool(os.environ.get("E2E_NODE_IMAGE"))


def tag() -> str:
    """Return the name of the node image that this checkout makes, or the one of E2E_NODE_IMAGE."""
    if foreign():
        return os.environ["E2E_NODE_IMAGE"]
    scripts = [cache.code(path) for path in (__file__, system_images.__file__, archive.__file__)]
    parts = [binaries.key(name) for name in _PARTS]
    return f"{REPOSITORY}:v{KUBERNETES}-{cache.key(debian.SUITE, *parts, *scripts)}"


def ensure() -> str:
    """Build the node image if the engine does not hold it; returns its name.

    Raises:
        shell.CommandError: a build step failed.
    """
    image = tag()
    if foreign():
        return image
    with cache.locked("node-image"):
        if provider.image_id(image):
            return image
        for name in _PARTS:
            binaries.folder(name)
        with shell.step(f"building {image}"), cache.scratch() as scratch:
            root = scratch / "root"
            with shell.step("node image: Debian root file system"):
                debian.bootstrap(root, PACKAGES)
            _install(root)
            with shell.step("node image: importing"):
                base = f"{image}-base"
                provider.import_folder(root, base, "ENV container=docker", _STOP, _ENTRYPOINT)
            _preload(base, image, root, scratch)
            provider.succeeds("untag", base) if provider.name() == "podman" else provider.succeeds("rmi", base)
        provider.forget_older(REPOSITORY)
    return image


def _install(root: Path) -> None:
    base = binaries.folder("kind") / "base"
    for name in ("usr/local/bin", "kind/bin"):
        for source in (base / name).iterdir():
            _copy(source, root / name / source.name, 0o755)
    for source in (base / "etc").rglob("*"):
        if source.is_file():
            _copy(source, root / source.relative_to(base), 0o644)
    for folder, names in _PROGRAMS.items():
        for name in names:
            _copy(binaries.ensure(name), root / folder / name, 0o755)
    for folder in ("etc/kubernetes/manifests", "etc/cni/net.d", "kind/manifests"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "kind/version").write_text(f"v{KUBERNETES}")
    (root / "kind/manifests/default-storage.yaml").write_text(_STORAGE_CLASS)

    config = root / "etc/containerd/config.toml"
    # lowering a pod's OOM score needs CAP_SYS_RESOURCE, which a machine that is itself a sandbox may lack
    config.write_text(config.read_text().replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true"))
    spec = json.loads(shell.run([str(binaries.ensure("ctr")), "oci", "spec"]))
    spec.setdefault("hooks", {}).setdefault("createContainer", []).append({"path": "/kind/bin/mount-product-files.sh"})
    del spec["process"]["rlimits"]
    (root / "etc/containerd/cri-base.json").write_text(json.dumps(spec))

    for pattern in _NO_UNITS:
        for unit in root.glob(pattern):
            unit.unlink()
    with (root / "etc/systemd/journald.conf").open("a") as handle:
        handle.write("ReadKMsg=no\n")
    for words in (["enable", "kubelet", "containerd", "undo-mount-hacks"], ["mask", "systemd-binfmt"]):
        units = [f"{unit}.service" for unit in words[1:]]
        shell.run(["chroot", str(root), "systemctl", words[0], *units])


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _preload(base: str, image: str, root: Path, scratch: Path) -> None:
    container = f"omni-e2e-preload-{os.getpid()}"
    provider.run("run", "-d", "--privileged", "--name", container, "--entrypoint", "sleep", base, "infinity")
    try:
        with shell.step("node image: control plane images"):
            provider.run("exec", "-d", container, "containerd")
            _wait_for_containerd(container)
            argv = ["exec", "-i", container, "ctr", "-n", "k8s.io", "images", "import"]
            # unpacking is left to the node: its containerd does it when it starts a pod, and this image stays small
            flags = ["--label=io.cri-containerd.pinned=pinned", "--all-platforms", "--no-unpack", "-"]
            provider.feed(
                [*argv, *flags], lambda pipe: archive.write(system_images.images(root), pipe, scratch=scratch)
            )
            provider.run("exec", container, "pkill", "-x", "containerd")
        with shell.step("node image: committing"):
            provider.run("stop", "-t", "2", container)
            provider.run("commit", "--change", _STOP, "--change", _ENTRYPOINT, container, image)
    finally:
        provider.succeeds("rm", "-f", container)


def _wait_for_containerd(container: str) -> None:
    for _ in range(60):
        if provider.succeeds("exec", container, "ctr", "version"):
            return
        time.sleep(0.5)
    raise shell.CommandError(["containerd"], 1, f"no answer in {container} after 30 s")
