"""The API server dies under the running operator."""

from __future__ import annotations

import signal

from tests.api.namespace_under_test import NamespaceUnderTest


def test_the_operator_outlives_the_api_server_and_finds_what_it_missed(space: NamespaceUnderTest) -> None:
    space.create(placement={"strategy": "Spread"})
    revision = space.ready()["status"]["revision"]
    space.operator.settle(calm=1)
    control_plane, operator = space.control_plane, space.operator
    server = control_plane.processes["kube-apiserver"]
    server.kill()
    server.wait()
    operator.signal(signal.SIGSTOP)  # so that it cannot see the deletion, also not by luck
    try:
        control_plane.spawn("kube-apiserver", [str(part) for part in server.args])  # type: ignore[union-attr]
        control_plane.wait("API server", lambda: control_plane.call("GET", "/readyz")[0] == 200)
        space.drop("NetworkPolicy", f"demo-{revision}-clients")
        space.drop("ConfigMap", f"demo-{revision}")
    finally:
        operator.signal(signal.SIGCONT)
    space.wait("policy again", lambda: space.child("NetworkPolicy", f"demo-{revision}-clients"), seconds=60)
    space.wait("record again", lambda: space.child("ConfigMap", f"demo-{revision}"), seconds=60)
    assert operator.running
    space.ready()
    assert space.get()["status"]["revision"] == revision

    space.edit(engine={"extraArgs": ["--max-model-len=4096"]})
    assert space.ready()["status"]["revision"] != revision
