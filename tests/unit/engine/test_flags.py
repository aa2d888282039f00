"""The command line of every release: placeholders exist, and the operator's flags are its own."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from omni_operator.api.conditions import ConditionType
from omni_operator.api.engine_spec import OWNED_FLAGS
from omni_operator.api.spec import Backend
from omni_operator.engine.flags import Flags, fill, flag_of
from omni_operator.engine.release import Release
from omni_operator.engine.releases import releases
from tests.unit.make import refused, spec

every_release = pytest.mark.parametrize("release", releases(), ids=lambda release: release.series)
PLACEHOLDERS = {
    "program": set(),
    "omni": set(),
    "listen": {"port"},
    "served_name": {"name"},
    "config": {"path"},
    "ray": {"address"},
    "head": {"address", "port"},
    "headless": {"stage", "address", "port"},
    "timeouts": {"all_stages", "one_stage"},
}


@every_release
@pytest.mark.parametrize("part", PLACEHOLDERS)
def test_placeholders_are_those_that_are_filled_in(release: Release, part: str) -> None:
    template = getattr(release.flags, part)
    found = set(re.findall(r"{(\w+)}", " ".join(template)))
    assert found in (PLACEHOLDERS[part], set())
    assert "{" not in " ".join(fill(template, **dict.fromkeys(PLACEHOLDERS[part], "x")))


def test_every_part_has_its_placeholders_here() -> None:
    assert PLACEHOLDERS.keys() == {field.name for field in fields(Flags)}


@every_release
def test_a_release_has_the_flags_of_its_backends(release: Release) -> None:
    assert bool(release.flags.ray) == (Backend.RAY in release.backends)
    assert bool(release.flags.headless) == bool(release.flags.head) == (Backend.HEADLESS in release.backends)


def test_the_api_refuses_what_the_releases_own() -> None:
    used = {flag for release in releases() for flag in release.flags.used}
    long_forms = {"--omni-master-address", "--omni-master-port"}  # the operator passes -oma and -omp
    assert set(OWNED_FLAGS) == used | long_forms
    assert not used & long_forms


@every_release
@pytest.mark.parametrize("argument", ["--port=1", "--stage_id", "-oma", "--deploy-config", "--worker_backend=ray"])
def test_a_plan_from_a_file_is_refused_as_the_api_server_refuses_it(release: Release, argument: str) -> None:
    found = refused(spec(engine={"version": f"{release.series}.0", "extraArgs": ["--log-stats", argument]}))
    assert found.condition is ConditionType.ACCEPTED
    assert found.message.startswith(f"engine.extraArgs {argument}: the operator sets that flag; remove it")


def test_a_flag_is_read_as_the_engine_reads_it() -> None:
    assert flag_of("--worker_backend=ray") == "--worker-backend"
    assert flag_of("-omp") == "-omp"


def test_only_placeholders_are_filled() -> None:
    assert fill(("--a", "{b}", "$(POD_IP)"), b="{head}") == ["--a", "{head}", "$(POD_IP)"]
