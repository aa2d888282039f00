"""The base image of all images here: Debian with Python 3.11 and the libraries of the engine.

Others build FROM it, so its key depends on what is in it (packages, suite), not on the code of this
file.
"""

from e2e.cluster import cache, debian, provider, shell

REPOSITORY = "localhost/omni-e2e/python"
PACKAGES = (
    "bash", "ca-certificates", "procps", "python3", "python3-venv", "wget",
    "libgomp1", "libnuma1",  # torch
    "libibverbs1", "libnl-3-200", "libnl-route-3-200", "libcurl4",  # Mooncake, linked even where only TCP is used
)  # fmt: skip
RECIPE = "1"  # raise it when the way the image is made changes what is in it


def tag() -> str:
    """Return the image's name with its content key."""
    return f"{REPOSITORY}:3.11-{cache.key(RECIPE, debian.SUITE, *sorted(PACKAGES))}"


def ensure() -> str:
    """Build the base image if the engine does not hold it; returns its name.

    Raises:
        shell.CommandError: debootstrap or the engine failed.
    """
    image = tag()
    with cache.locked("base-image"):
        if provider.image_id(image):
            return image
        with shell.step(f"building {image}"), cache.scratch() as scratch:
            root = scratch / "root"
            debian.bootstrap(root, PACKAGES)
            (root / "usr/bin/python").symlink_to("python3")
            path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            provider.import_folder(root, image, f"ENV PATH={path}", "ENV LANG=C.UTF-8", 'CMD ["python3"]')
        provider.forget_older(REPOSITORY)
    return image
