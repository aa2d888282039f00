"""Writes image archives (the format of `docker save`) without a container engine.

The control plane's images are one static program each. Writing their archives directly leaves no intermediate images in
the engine's storage, and gives the same image id for the same bytes.
"""

import dataclasses
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A one-layer image.

    Attributes:
        names: its full names, tag included.
        files: path in the image (no leading slash) -> file on this machine; links are followed, modes are kept.
        entrypoint: what runs when the pod names no command.
        links: path in the image -> what the symbolic link there points at.
    """

    names: tuple[str, ...]
    files: Mapping[str, Path]
    entrypoint: tuple[str, ...] = ()
    links: Mapping[str, str] = dataclasses.field(default_factory=dict)


def write(images: Iterable[Image], out: IO[bytes], *, scratch: Path) -> None:
    """Write `images` into `out`, which need not be seekable; `scratch` is a folder with room for the largest of them."""
    manifest = []
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for image in images:
            layer = scratch / "layer.tar"
            _write_layer(image, layer)
            digest = _sha256(layer)
            config = json.dumps(_config(image, digest), sort_keys=True).encode()
            config_name = f"{hashlib.sha256(config).hexdigest()}.json"
            tar.add(layer, arcname=f"{digest}/layer.tar", filter=_anonymous)
            layer.unlink()
            _add_bytes(tar, config_name, config)
            manifest.append({"Config": config_name, "RepoTags": list(image.names), "Layers": [f"{digest}/layer.tar"]})
        _add_bytes(tar, "manifest.json", json.dumps(manifest).encode())


def _config(image: Image, digest: str) -> dict[str, object]:
    return {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Env": [f"PATH={PATH}"], "Entrypoint": list(image.entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created_by": "e2e/cluster/archive.py"}],
    }


def _write_layer(image: Image, layer: Path) -> None:
    folders = {str(parent) for name in (*image.files, *image.links) for parent in Path(name).parents} - {"."}
    with tarfile.open(layer, "w", dereference=True) as tar:
        for name in sorted(folders | {"tmp"}):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(info)
        for name, source in sorted(image.files.items()):
            tar.add(source, arcname=name, filter=_anonymous)
        for name, target in sorted(image.links.items()):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
