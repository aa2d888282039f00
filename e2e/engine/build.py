"""Makes the engine images, each under a key of everything that goes into it, and only if it is missing."""

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from e2e.cluster import base_image, cache, provider, shell
from e2e.engine import environment

HERE = Path(__file__).parent
LABEL = "dev.omni-operator.key"
IMAGES = {
    "vllm-omni": "localhost/omni-e2e/vllm-omni:0.16.0-cpu",
    "vllm-omni-0.30": "localhost/omni-e2e/vllm-omni-0.30:0.30.0-cpu",
    "standin": "localhost/omni-e2e/standin:0.16.0",
}
# Settings under which the engine works on CPU, offline, as any user: everything it writes goes below /tmp.
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB per stage
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # binding reads NUMA files that a container may lack
    "OMP_NUM_THREADS": "1",
    "OMNI_CPU_POLL_SLEEP": "0.02",  # seconds; see omni_cpu/polling.py
    "VLLM_CPU_CI_ENV": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HOME": "/tmp",
    "HF_HOME": "/tmp/huggingface",
    "XDG_CACHE_HOME": "/tmp/cache",
    "XDG_CONFIG_HOME": "/tmp/config",
    "VLLM_CACHE_ROOT": "/tmp/cache/vllm",
    "VLLM_CONFIG_ROOT": "/tmp/config/vllm",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/cache/inductor",
    "TRITON_CACHE_DIR": "/tmp/cache/triton",
    "NUMBA_CACHE_DIR": "/tmp/cache/numba",
    "MPLCONFIGDIR": "/tmp/config/matplotlib",
    "PYTHONDONTWRITEBYTECODE": "1",
}
# distributions that a launcher in the image may ask for, by name
STANDIN_VERSIONS = {
    "ray": "2.53.0",
    "vllm": "0.16.0",
    "vllm-omni": "0.16.0",
    "mooncake-transfer-engine": "0.3.11.post1",
}
STANDIN_PROGRAMS = {"ray": "ray", "vllm": "serve", "vllm-omni": "serve", "mooncake_master": "mooncake"}


def tag(name: str) -> str:
    """Return the image `name` ("vllm-omni" or "standin") with its content key.

    Raises:
        KeyError: there is no such image.
    """
    sources, base = [HERE / "build.py"], base_image.tag()
    if name == "standin":
        sources += sorted((HERE / "standin").glob("*.py"))
    else:
        release = _RELEASES[name]
        sources += [HERE / part for part in ("environment.py", "cuda_stubs.py", release.checkpoint[0])]
        sources += [release.lock, release.torch_lock]
        sources += sorted(p for p in (HERE / "plugin").rglob("*") if p.suffix in {".py", ".toml"})
    parts = [part for path in sources for part in (str(path.relative_to(HERE)), path.read_bytes())]
    return f"{IMAGES[name]}-{cache.key(base, *parts)}"


def ensure(name: str) -> str:
    """Build the image `name` if the container engine does not hold it; returns its name with the key.

    Raises:
        KeyError: there is no such image.
        shell.CommandError: pip, the compiler or the container engine failed.
    """
    image = tag(name)
    with cache.locked(f"engine-{name}"):
        if not provider.image_id(image):
            base = base_image.ensure()
            with shell.step(f"building {image}"), tempfile.TemporaryDirectory(dir=cache.root()) as scratch:
                fill, variables = _RECIPES[name]
                root = Path(scratch) / "root"
                root.mkdir()
                fill(root)
                _commit(root, image, base, variables)
            shutil.rmtree(cache.folder("engine", "pip"))  # was for trying again after a failure
        provider.run("tag", image, IMAGES[name])
        # the plain name counts as one more
        provider.forget_older(IMAGES[name].split(":", maxsplit=1)[0], keep=cache.KEEP + 1)
    return image


def _commit(root: Path, image: str, base: str, variables: dict[str, str]) -> None:
    shell.run(["chmod", "-R", "a+rX", str(root)])  # for any user, whatever umask this process or a library had
    recipe = root.parent / "Dockerfile"
    lines = [f"FROM {base}", "COPY root/ /", f"LABEL {LABEL}={image.rpartition('-')[2]}"]
    lines += [f"ENV {key}={value}" for key, value in variables.items()]
    recipe.write_text("\n".join([*lines, 'CMD ["bash"]', ""]))
    with shell.step("writing the image"):
        provider.run("build", "-q", "-t", image, "-f", str(recipe), str(root.parent))


def _standin(root: Path) -> None:
    import yaml

    packages = root / "usr/local/lib/python3.11/dist-packages"
    shutil.copytree(HERE / "standin", packages / "standin", ignore=shutil.ignore_patterns("__pycache__"))
    parser = Path(yaml.__file__).parent
    shutil.copytree(parser, packages / "yaml", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name, version in STANDIN_VERSIONS.items():
        info = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    programs = root / "usr/local/bin"
    programs.mkdir(parents=True)
    for program, module in STANDIN_PROGRAMS.items():
        text = f"#!/usr/bin/python3\nimport sys\nfrom standin.{module} import main\nsys.exit(main())\n"
        (programs / program).write_text(text)
        (programs / program).chmod(0o755)


_RELEASES = {"vllm-omni": environment.RELEASES["0.16"], "vllm-omni-0.30": environment.RELEASES["0.30"]}
_PATH = {"PATH": f"{environment.VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_RECIPES: dict[str, tuple[Callable[[Path], None], dict[str, str]]] = {
    "standin": (_standin, {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}),
} | {
    name: (partial(environment.build, release=release), {**_PATH, **ENVIRONMENT}) for name, release in _RELEASES.items()
}
