"""The API server dies under the running operator."""

from __future__ import annotations

import signal

from tests.api.world import World


def test_the_operator_outlives_the_api_server_and_finds_what_it_missed(world: World) -> None:
    world.create(placement={"strategy": "Spread"})
    revision = world.ready()["status"]["revision"]
    world.operator.settle(calm=1)
    plane, operator = world.plane, world.operator
    server = plane.processes["kube-apiserver"]
    server.kill()
    server.wait()
    operator.signal(signal.SIGSTOP)  # so that it cannot see the deletion, also not by luck
    try:
        plane.spawn("kube-apiserver", [str(part) for part in server.args])  # type: ignore[union-attr]
        plane.wait("API server", lambda: plane.call("GET", "/readyz")[0] == 200)
        world.drop("NetworkPolicy", f"demo-{revision}-clients")
        world.drop("ConfigMap", f"demo-{revision}")
    finally:
        operator.signal(signal.SIGCONT)
    world.wait("policy again", lambda: world.child("NetworkPolicy", f"demo-{revision}-clients"), seconds=60)
    world.wait("record again", lambda: world.child("ConfigMap", f"demo-{revision}"), seconds=60)
    assert operator.running
    world.ready()
    assert world.get()["status"]["revision"] == revision

    world.edit(engine={"extraArgs": ["--max-model-len=4096"]})
    assert world.ready()["status"]["revision"] != revision
