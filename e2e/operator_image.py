"""The operator's image from the Dockerfile, on the local base image (python -m e2e.operator_image).

A machine without an image registry still has an index for pip: pip's configuration and the
machine's certificates go into the build as secrets, which stay out of the image.
"""

import ast
import os
import sys
import tomllib
from pathlib import Path

from e2e.cluster import base_image, cache, provider, shell

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "localhost/omni-e2e/omni-operator"
DEPENDENCIES = "localhost/omni-e2e/operator-dependencies"
LOCKS = ("constraints-build.txt", "constraints-runtime.txt")
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def tag() -> str:
    """Return the image's name: the version of pyproject.toml and the key of its content."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    sources = (path for path in sorted((ROOT / "operator").rglob("*")) if path.is_file())
    files = [ROOT / name for name in ("Dockerfile", ".dockerignore", "pyproject.toml", *LOCKS)]
    files += [path for path in sources if "__pycache__" not in path.parts]
    parts = [part for path in files for part in (str(path.relative_to(ROOT)), path.read_bytes())]
    return f"{REPOSITORY}:{version}-{cache.key(base_image.tag(), *parts)}"


def ensure() -> str:
    """Build the image if the container engine does not hold it; returns its name.

    Raises:
        shell.CommandError: pip or the container engine failed.
    """
    image = tag()
    with cache.locked("operator-image"):
        if provider.image_id(image):
            return image
        base = base_image.ensure()
        with cache.scratch() as scratch:
            options = ["--network=host", f"--build-arg=BASE={base}", *_pip(scratch)]
            # a tag of their own keeps the dependencies when only the sources change
            key = cache.key(base, *((ROOT / name).read_bytes() for name in ("Dockerfile", *LOCKS)))
            with shell.step("the operator's dependencies"):
                _build(f"{DEPENDENCIES}:{key}", *options, "--target=dependencies")
            with shell.step(f"building {image}"):
                version = image.rpartition(":")[2].split("-")[0]
                _build(image, *options, f"--build-arg=VERSION={version}")
        provider.succeeds("image", "prune", "--force", "--filter", "label=dev.omni-operator.stage=package")
        provider.forget_older(REPOSITORY)
        provider.forget_older(DEPENDENCIES)
    return image


def _build(image: str, *options: str) -> None:
    provider.run("build", "--quiet", "--tag", image, *options, str(ROOT))


def _pip(scratch: Path) -> list[str]:
    """Return the build options for pip's configuration and the certificates."""
    settings = _pip_settings()
    options = [
        f"--volume={word}:{word}:ro"
        for word in " ".join(settings.values()).replace("file://", "").split()
        if word.startswith("/") and Path(word).is_dir() and provider.name() == "podman"  # docker's build mounts nothing
    ]
    certificates = settings.get("cert") or os.environ.get("SSL_CERT_FILE") or _CERTIFICATES
    if Path(certificates).is_file():
        settings["cert"] = "/run/secrets/ca"
        options.append(f"--secret=id=ca,src={certificates}")
    lines = [f"{name} = {value.replace(chr(10), chr(10) + '    ')}" for name, value in settings.items()]
    target = scratch / "pip.conf"
    target.touch(mode=0o600)  # an index's address may hold a password
    target.write_text("\n".join(["[global]", *lines, ""]))
    return [*options, f"--secret=id=pip,src={target}"]


def _pip_settings() -> dict[str, str]:
    """Return pip's options of this machine: from its files, replaced by PIP_ variables."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for row in shell.run([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        name, _, value = row.partition("=")
        section, _, option = name.partition(".")
        if section in found:
            found[section][option] = str(ast.literal_eval(value))
    return {**found["global"], **found["install"], **found[":env:"]}


if __name__ == "__main__":
    print(ensure())
