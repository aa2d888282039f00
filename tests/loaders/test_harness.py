"""The harness itself: stand-ins, the wheel's own modules, and interrupted downloads."""

from __future__ import annotations

import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loaders import excerpt, shims, stub, wheels
from tests.loaders.loader import Loader
from tests.loaders.samples import SHARED_MEMORY, three_stages

# What every release must have executed after one file, and what the newer ones must.
REAL = {"distributed.omni_connectors.utils.initialization", "distributed.omni_connectors.factory", "entrypoints.utils"}
REAL_020 = {"config.stage_config", "engine.stage_init_utils", "model_executor.models.qwen3_omni.pipeline"}
REAL_030 = {"config.resolver", "config.config_factory", "config.omni_config"}


def test_the_wheels_own_modules_run(loader: Loader) -> None:
    assert loader.load(*three_stages(loader.wheel.release, SHARED_MEMORY, async_chunk=True)).ok
    about = loader.about()
    expected = REAL | (REAL_020 if float(loader.wheel.release) >= 0.2 else set())
    expected |= REAL_030 if loader.wheel.release == "0.30" else set()
    assert {f"vllm_omni.{name}" for name in expected} <= set(about.real)
    of_wheel = {name for name in about.stand_ins if name.startswith("vllm_omni")}
    assert of_wheel <= set(shims.PACKAGES), "no other module of the wheel is replaced"


@pytest.fixture
def stand_in() -> Iterator[types.ModuleType]:
    """A package that only stands in."""
    finder = stub.Packages(["nothing_there"], {"nothing_there.values": {"ANSWER": 42}})
    sys.meta_path.insert(0, finder)
    import nothing_there  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

    yield nothing_there
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if name.startswith("nothing_there")]:
        del sys.modules[name]


def test_a_stand_in_can_be_named_and_inherited_from(stand_in: Any) -> None:
    def body(namespace: dict[str, Any]) -> None:
        namespace["__init__"] = lambda self, size: setattr(self, "size", size)

    Model = types.new_class("Model", (stand_in.nn.Module,), {"keyword": True}, body)  # noqa: N806
    assert Model(3).size == 3
    assert not isinstance(3, stand_in.Tensor)
    assert stand_in.Tensor | None


def test_a_stand_in_decides_nothing(stand_in: Any) -> None:
    for decide in (
        lambda: bool(stand_in.cuda.is_available),
        stand_in.cuda.is_available,
        lambda: stand_in.version > (1, 2),
        lambda: list(stand_in.METHODS),
        lambda: stand_in.hub.load("model"),
        lambda: "gptq" in stand_in.METHODS,
    ):
        with pytest.raises(TypeError):
            decide()


def test_some_values_are_given(stand_in: Any) -> None:
    from nothing_there.values import ANSWER  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

    assert ANSWER == 42


def test_an_excerpt_runs_what_lies_between(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "def f(self):\n    if self:\n        unknown()\n        x = self * 2\n        y = x + 1\n        z = 0\n"
    )
    found = excerpt.run(source, start="x = ", end="y = ", names={"self": 5})
    assert found["y"] == 11
    assert "z" not in found
    with pytest.raises(LookupError, match="no statements from 'w = '"):
        excerpt.run(source, start="w = ", end="y = ", names={})


def test_an_interrupted_download_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNI_CACHE", str(tmp_path))
    archive = tmp_path / "some.whl"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("vllm_omni/deploy/a.yaml", "stages: []")
        made.writestr("vllm_omni/picture.png", "")
    monkeypatch.setattr(wheels, "_download", lambda wheel, into: archive)
    wheel = wheels.Wheel("1.2.3", "vllm-omni==1.2.3 --hash=sha256:0")

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            wheels.folder(wheel)
    assert list((tmp_path / "wheels").iterdir()) == []
    folder = wheels.folder(wheel)
    assert [path.name for path in folder.rglob("*.*")] == ["a.yaml"]
    monkeypatch.setattr(wheels, "_download", interrupted)
    assert wheels.folder(wheel) == folder


def test_all_releases_are_pinned_with_a_hash() -> None:
    found = wheels.pinned()
    assert [wheel.release for wheel in found] == [f"0.{minor}" for minor in range(14, 31, 2)]
    assert all(len(wheel.requirement.partition("--hash=sha256:")[2]) == 64 for wheel in found)
