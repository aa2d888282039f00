"""The client: what it sends, what it tries again, and what it must not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import BY_KIND, DEPLOYMENT, EVENT, NODE, POD, RAY_CLUSTER, Resource
from tests.unit.kube.fake_api import FakeApi, thing

OBJECT = {"metadata": {"namespace": "ns", "name": "a"}, "spec": {"replicas": 1}}


@dataclass
class Server:
    api: FakeApi
    kube: Kube
    pauses: list[float]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with FakeApi() as api, api.client() as kube:
        monkeypatch.setattr("omni_operator.kube.client.asyncio", _Asyncio(sleep))
        yield Server(api, kube, pauses)


class _Asyncio:
    """asyncio, with a sleep that takes no time."""

    def __init__(self, sleep: Any) -> None:
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


GROUPS: dict[str, Any] = {"groups": [{"name": "apps", "versions": [{"version": "v1"}]}]}
KINDS: dict[str, Any] = {"resources": [{"name": "deployments/scale"}, {"name": "deployments"}]}


@pytest.mark.parametrize(
    ("groups", "kinds", "known"),
    [
        (GROUPS, KINDS, True),
        (GROUPS, {"resources": [{"name": "deployments/scale"}]}, False),
        ({"groups": [{"name": "apps", "versions": [{"version": "v2"}]}]}, KINDS, False),
        ({"groups": []}, KINDS, False),
    ],
)
async def test_discovery_names_a_kind(
    server: Server, groups: dict[str, Any], kinds: dict[str, Any], *, known: bool
) -> None:
    server.api.fail.extend((200, {}, json.dumps(answer).encode()) for answer in (groups, kinds))
    assert await server.kube.discovers(DEPLOYMENT) is known
    assert [path for _, path, _ in server.api.seen] == ["/apis", "/apis/apps/v1"][: len(server.api.seen)]


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (POD, "/api/v1/namespaces/ns/pods/a"),
        (NODE, "/api/v1/nodes/a"),
        (DEPLOYMENT, "/apis/apps/v1/namespaces/ns/deployments/a"),
        (EVENT, "/apis/events.k8s.io/v1/namespaces/ns/events/a"),
        (RAY_CLUSTER, "/apis/ray.io/v1/namespaces/ns/rayclusters/a"),
    ],
)
def test_paths(resource: Resource, path: str) -> None:
    assert resource.path("ns", "a") == path
    assert resource.path("ns", "a", "status") == f"{path}/status"
    assert resource.path() == path.replace("/namespaces/ns", "").removesuffix("/a")


def test_every_child_kind_can_be_found_by_its_name() -> None:
    assert set(BY_KIND) == {
        "ConfigMap", "Service", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "RayCluster", "Pod",
    }  # fmt: skip


async def test_apply_owns_what_it_sends_and_is_strict(server: Server) -> None:
    await server.kube.apply(DEPLOYMENT, OBJECT, force=False)
    await server.kube.apply(DEPLOYMENT, OBJECT, force=True, subresource="status")
    (first, path, query), (_, status_path, forced) = server.api.seen
    assert first == "PATCH"
    assert path == "/apis/apps/v1/namespaces/ns/deployments/a"
    assert query == {"fieldManager": "test", "fieldValidation": "Strict"}
    assert status_path.endswith("/a/status")
    assert forced["force"] == "true"
    assert server.api.bodies == [OBJECT, OBJECT]


async def test_too_many_requests_waits_as_long_as_the_server_says(server: Server) -> None:
    server.api.refuse(429, headers={"Retry-After": "4"})
    await server.kube.create(POD, OBJECT)
    assert server.pauses == [4.0]
    assert server.kube.requests["POST", "Pod"] == 2


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2026 07:28:00 GMT", "", "-5", "soon"])
async def test_a_retry_after_that_is_no_number_is_a_short_pause(server: Server, value: str) -> None:
    server.api.refuse(429, headers={"Retry-After": value})
    await server.kube.get(POD, "ns", "a")
    assert 0 < server.pauses[0] < 1


@pytest.mark.parametrize(("asked", "wait"), [("6", 6.0), ("3600", 60.0)])
async def test_a_long_retry_after_is_left_to_the_queue(server: Server, asked: str, wait: float) -> None:
    """A worker that slept meanwhile would be missing to all other pipelines."""
    server.api.refuse(503, headers={"Retry-After": asked})
    with pytest.raises(ApiError) as found:
        await server.kube.get(POD, "ns", "a")
    assert found.value.retry_after == wait
    assert server.pauses == []


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
async def test_what_may_be_repeated_is_repeated_once(server: Server, code: int) -> None:
    server.api.refuse(*[code] * 2)
    with pytest.raises(ApiError) as found:
        await server.kube.apply(DEPLOYMENT, OBJECT, force=True)
    assert found.value.status == code
    assert len(server.api.seen) == 2
    assert len(server.pauses) == 1


@pytest.mark.parametrize("code", [500, 502, 503, 504])
async def test_a_post_that_may_have_been_done_is_not_repeated(server: Server, code: int) -> None:
    server.api.refuse(code)
    with pytest.raises(ApiError):
        await server.kube.create(POD, OBJECT)
    assert len(server.api.seen) == 1


async def test_a_broken_connection_is_tried_again_but_not_for_a_post(server: Server) -> None:
    server.api.fail.append((0, {}, b""))
    await server.kube.apply(DEPLOYMENT, OBJECT, force=True)
    assert len(server.pauses) == 1
    server.api.fail.append((0, {}, b""))
    with pytest.raises(aiohttp.ClientConnectionError):
        await server.kube.create(POD, OBJECT)
    assert [method for method, _, _ in server.api.seen] == ["PATCH", "PATCH", "POST"]


@pytest.mark.parametrize(
    ("code", "conflict", "not_found", "gone"),
    [(409, True, False, False), (404, False, True, False), (410, False, False, True), (422, False, False, False)],
)
async def test_refusals_are_final_and_tell_what_they_are(
    server: Server, code: int, conflict: bool, not_found: bool, gone: bool
) -> None:
    server.api.refuse(code, reason="Reason")
    with pytest.raises(ApiError, match="Reason") as found:
        await server.kube.apply(DEPLOYMENT, OBJECT, force=False)
    assert (found.value.conflict, found.value.not_found, found.value.gone) == (conflict, not_found, gone)
    assert server.pauses == []


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b"", b"\xff"])
async def test_an_error_that_is_no_status_keeps_its_text(server: Server, body: bytes) -> None:
    server.api.fail.append((403, {}, body))
    with pytest.raises(ApiError) as found:
        await server.kube.get(POD, "ns", "a")
    assert found.value.status == 403


async def test_get_of_nothing_is_none(server: Server) -> None:
    server.api.refuse(404)
    assert await server.kube.get(POD, "ns", "a") is None


@pytest.mark.parametrize(("code", "done"), [(200, True), (404, False), (409, False)])
async def test_delete_is_of_one_object_and_says_if_it_was_there(server: Server, code: int, done: bool) -> None:
    if code != 200:
        server.api.refuse(code)
    assert await server.kube.delete(POD, "ns", "a", uid="u") is done
    assert server.api.bodies == [{"propagationPolicy": "Background", "preconditions": {"uid": "u"}}]


async def test_requests_are_counted_by_verb_and_kind(server: Server) -> None:
    server.api.objects = {"a": thing("a", 1)}
    await server.kube.list_page(POD, query={})
    await server.kube.get(POD, "ns", "a")
    assert server.kube.requests == {("LIST", "Pod"): 1, ("GET", "Pod"): 1}
