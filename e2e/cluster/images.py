"""Images: made without a registry, and streamed into the nodes without an archive on the disk."""

import json
import subprocess
from collections.abc import Sequence

from e2e.cluster import archive, base_image, cache, provider, shell
from e2e.cluster.nodes import full_name, node_exec, workers

_CHUNK = 1 << 20
_CTR = ("ctr", "-n", "k8s.io")


def base_python() -> str:
    """Return the name of the base image (Debian, Python 3.11); builds it if the engine lacks it.

    Raises:
        shell.CommandError: the build failed.
    """
    return base_image.ensure()


def load(image: str, nodes: Sequence[str] | None = None) -> list[str]:
    """Load `image` from the engine into those `nodes` (all workers by default) that lack it.

    Returns:
        The nodes it was sent to.

    Raises:
        LookupError: the engine holds no such image, or the cluster no such node.
        shell.CommandError: a node refused it.
    """
    targets = [full_name(node) for node in nodes] if nodes else workers()
    wanted = provider.image_id(image)
    if not wanted:
        raise LookupError(f"{provider.name()} holds no image {image}")
    name = _full_reference(image)
    before = {node: _ids(node).get(name) for node in targets}
    missing = [node for node in targets if before[node] != wanted]
    if missing:
        with shell.step(f"loading {name} into {', '.join(missing)}"):
            _stream(image, missing)
            for node in missing:
                _slim(node, name)
                old = before[node]
                if old and old not in _ids(node).values():
                    # Removing gigabytes takes longer than crictl's own 2 s, and a stopped container
                    # may still hold the image.
                    node_exec(node, ["sh", "-c", f"crictl --timeout 300s rmi {old} || true"])
    return missing


def make(image: archive.Image) -> str:
    """Make a one-layer image in the engine if it does not hold one of that name; returns its name.

    Raises:
        shell.CommandError: the engine refused it.
    """
    name = image.names[0]
    if not provider.image_id(name):
        with cache.scratch() as scratch:
            provider.feed(["load"], lambda pipe: archive.write([image], pipe, scratch=scratch))
        provider.forget_older(name.rsplit(":", 1)[0])
    return name


def listing(node: str) -> list[tuple[str, int]]:
    """Return name and size in bytes of every image that the node holds."""
    rows = json.loads(node_exec(node, ["crictl", "images", "-o", "json"]))["images"]
    return sorted((tag, int(row["size"])) for row in rows for tag in row["repoTags"] or [row["id"]])


def _full_reference(image: str) -> str:
    first, slash, _ = image.partition("/")
    if not slash:
        image = f"docker.io/library/{image}"
    elif "." not in first and ":" not in first and first != "localhost":
        image = f"docker.io/{image}"
    return image if ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"


def _ids(node: str) -> dict[str, str]:
    rows = json.loads(node_exec(node, ["crictl", "images", "-o", "json"]))["images"]
    return {tag: row["id"].removeprefix("sha256:") for row in rows for tag in row["repoTags"] or []}


def _stream(image: str, nodes: Sequence[str]) -> None:
    """Send one `save` into all `nodes` at once."""
    take = [*_CTR, "images", "import", "--all-platforms", "--snapshotter=overlayfs", "-"]
    save = provider.popen(["save", image], stdout=subprocess.PIPE)
    sinks = {
        node: provider.popen(["exec", "-i", node, *take], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for node in nodes
    }
    assert save.stdout is not None
    broken = False
    while not broken and (chunk := save.stdout.read(_CHUNK)):
        for sink in sinks.values():
            assert sink.stdin is not None
            try:
                sink.stdin.write(chunk)
            except BrokenPipeError:
                broken = True  # its own message, read below, says why
    save.stdout.close()
    for node, sink in sinks.items():
        _, errors = sink.communicate()
        if sink.returncode or broken:
            raise shell.CommandError(["exec", node, *take], sink.returncode or 1, errors.decode(errors="replace"))
    _, errors = save.communicate()
    if save.returncode:
        raise shell.CommandError([provider.name(), "save", image], save.returncode, errors.decode(errors="replace"))


def _slim(node: str, name: str) -> None:
    """Drop the packed layers of an image whose layers are unpacked: half of its space on the node.

    It is what containerd's `discard_unpacked_layers` does to images that it pulls, without the
    labels that hold them.
    """
    target = node_exec(node, [*_CTR, "images", "ls", f"name=={name}"]).splitlines()[1].split()[2]
    layers = json.loads(node_exec(node, [*_CTR, "content", "get", target]))["layers"]
    references = [f"containerd.io/gc.ref.content.l.{number}=" for number in range(len(layers))]
    node_exec(node, [*_CTR, "content", "label", target, *references])
    # containerd collects garbage when a lease goes; a passing image name would do, too, but confuse
    # its CRI part
    lease = node_exec(node, [*_CTR, "leases", "create"]).strip()
    node_exec(node, [*_CTR, "leases", "rm", "--sync", lease])
