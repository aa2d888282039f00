"""The first request of a server, to fakes that answer.

On loopback, since other addresses are nobody's.
"""

from __future__ import annotations

from tests.api.namespace_under_test import TCP, NamespaceUnderTest


def test_every_address_is_this_machines_and_ready_waits_for_an_answer(space: NamespaceUnderTest) -> None:
    joining = space.control_plane.joining
    assert joining is not None
    asked = joining.answerer.requests["POST", "/v1/chat/completions"]
    space.create(serving={"warmUp": {"mode": "Auto"}}, **TCP)
    omni = space.ready()
    assert joining.answerer.requests["POST", "/v1/chat/completions"] == asked + 1
    assert len(omni["status"]["answered"]) == 1
    addresses = [pod["status"]["podIP"] for pod in space.list("Pod")]
    addresses += [
        each["address"] for node in space.control_plane.get("/api/v1/nodes")["items"] for each in _internal(node)
    ]
    assert addresses
    assert all(address.startswith("127.") for address in addresses), addresses


def _internal(node: dict) -> list[dict]:  # type: ignore[type-arg]
    return [each for each in node["status"].get("addresses", ()) if each["type"] == "InternalIP"]
