"""Every `ray start` option that we render exists in Ray; KubeRay does not check rayStartParams."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from omni_operator.api.serving_spec import OWNED_START_PARAMS
from omni_operator.children import ray_cluster
from tests.unit.golden_cases import CASES
from tests.unit.launcher.fake_ray import LAUNCHER
from tests.unit.make import OWNER

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what other packages warn of at their import is not our matter
    from ray.scripts.scripts import start

OPTIONS: dict[str, Any] = {name: param for param in start.params for name in (*param.opts, *param.secondary_opts)}


def rendered() -> list[tuple[str, str, str]]:
    found = set()
    for name, case in CASES.items():
        made = case.revision()
        if made.plan.cluster_ref is None:
            spec = ray_cluster.build(OWNER, made, 0)["spec"]
            for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
                found |= {(name, key, value) for key, value in group["rayStartParams"].items()}
    return sorted(found)


@pytest.mark.parametrize(("case", "key", "value"), rendered())
def test_rendered_options_are_rays_and_take_the_value(case: str, key: str, value: str) -> None:
    param = OPTIONS[f"--{key}"]
    param.type.convert(value, param, None)
    assert not param.is_flag


@pytest.mark.parametrize("key", OWNED_START_PARAMS)
def test_owned_options_are_rays(key: str) -> None:
    assert f"--{key}" in OPTIONS


@pytest.mark.parametrize(
    "option", ["--address", "--num-cpus", "--num-gpus", "--object-store-memory", "--disable-usage-stats"]
)
def test_the_launchers_options_are_rays(option: str) -> None:
    assert option in LAUNCHER.read_text()
    assert OPTIONS[option].is_flag is (option == "--disable-usage-stats")
