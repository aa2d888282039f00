"""What somebody does to children by hand, and what belongs to somebody else."""

from __future__ import annotations

import pytest

from tests.api.world import TCP, Object, World

_BAD_IMAGE = "registry.invalid/other:1"


def test_children_edited_by_hand_are_repaired_with_an_event(world: World) -> None:
    world.create(**TCP)
    revision = world.ready()["status"]["revision"]
    world.operator.settle(calm=1)
    server, cluster = f"demo-{revision}-0-serve", f"demo-{revision}-0"
    image = "/spec/template/spec/containers/0/image"
    ray_image = "/spec/workerGroupSpecs/0/template/spec/containers/0/image"
    world.patch("Deployment", server, [_replace(image, _BAD_IMAGE)])
    world.patch("RayCluster", cluster, [_replace(ray_image, _BAD_IMAGE)])
    world.patch("Service", "demo", [_replace("/spec/selector", {"app": "other"})])

    def repaired() -> bool:
        live, ray, service = (
            world.child("Deployment", server),
            world.child("RayCluster", cluster),
            world.child("Service", "demo"),
        )
        assert live is not None
        assert ray is not None
        assert service is not None
        return (
            live["spec"]["template"]["spec"]["containers"][0]["image"] != _BAD_IMAGE
            and ray["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"] != _BAD_IMAGE
            and service["spec"]["selector"].get("omni.vllm.ai/revision") == revision
        )

    world.wait("repairs", repaired)
    world.ready()
    world.operator.settle(calm=1)
    notes = {event["note"] for event in world.events() if event["reason"] in {"Repaired", "Updated"}}
    assert any(note.startswith(f"Deployment {server}: ") and "image" in note for note in notes), notes
    assert any(note.startswith(f"RayCluster {cluster}: ") and "image" in note for note in notes), notes
    assert any(note.startswith("Service demo: ") and "selector" in note for note in notes), notes
    assert len(notes) == 3, notes
    assert world.get()["status"]["revision"] == revision


@pytest.mark.parametrize(
    "kind", ["ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service", "Deployment", "RayCluster"]
)
def test_a_deleted_child_is_made_again_with_an_event(ready_world: World, kind: str) -> None:
    world = ready_world
    world.operator.settle(calm=0.5)
    names = sorted(name for found, name in world.children() if found == kind)
    name, before = names[0], world.versions()
    told = len(world.events())
    world.drop(kind, name)
    world.wait(f"{kind} again", lambda: (kind, name) in world.children())
    world.ready()
    world.operator.settle(calm=1)
    after = world.versions()
    assert set(after) == set(before)
    others = {
        key
        for key in before
        if key != (kind, name) and key[0] not in {"RayCluster", "Deployment", "PodDisruptionBudget"}
    }
    assert {key: after[key] for key in others} == {key: before[key] for key in others}
    stories = [event["note"] for event in world.events()[told:] if event["reason"] == "Repaired"]
    assert stories.count(f"{kind} {name} was gone and has been made again") == 1
    if kind != "RayCluster":  # whose server is made again as well
        assert len(stories) == 1


@pytest.fixture(scope="module")
def _module_worlds() -> dict[str, World]:
    return {}


@pytest.fixture
def ready_world(_module_worlds: dict[str, World], world: World) -> World:
    """One pipeline for all deletions: each leaves it as it was."""
    if "it" not in _module_worlds:
        kept = World(plane=world.plane, operator=world.operator, namespace="repairs")
        kept.plane.ensure_namespace(kept.namespace)
        kept.create(**TCP)
        _module_worlds["it"] = kept
    found = _module_worlds["it"]
    found.ready()
    return found


def test_foreign_objects_are_never_touched(world: World) -> None:
    world.create(**TCP)
    world.wait("a revision", lambda: world.get().get("status", {}).get("revision"))
    revision = world.get()["status"]["revision"]
    world.wait("children", lambda: len(world.children()) == 9)
    world.delete()
    world.wait("all gone", lambda: not world.children(pods=True))
    world.wait("forgotten", lambda: not world.plane.get(world.path())["items"])

    mine = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "demo"},
            # Nothing in it contradicts what the operator would apply, so only its existence can keep the operator off.
            "spec": {"ports": [{"name": "other", "port": 80}]},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"demo-{revision}"},
            "data": {"plan.json": "{}"},
        },
        _deployment(f"demo-{revision}-0-serve"),
        _network_policy(f"demo-{revision}"),
    ]
    made = [world.plane.ok("POST", world.child_path(obj["kind"], "").rstrip("/"), obj) for obj in mine]
    world.create(**TCP)
    told = world.until("Progressing", status="False", reason="ForeignObject")
    assert f"ConfigMap demo-{revision}" in told["message"]
    assert "delete or rename it" in told["message"]
    _untouched(world, mine, made)
    assert not world.list("RayCluster"), "nothing may be made from a plan that could not be kept"

    world.drop("ConfigMap", f"demo-{revision}")
    told = world.until("Progressing", status="False", reason="ForeignObject", seconds=90)
    world.wait("others told", lambda: "Service demo" in world.condition("Progressing").get("message", ""), seconds=90)
    told = world.condition("Progressing")
    assert f"Deployment demo-{revision}-0-serve" in told["message"]
    assert f"NetworkPolicy demo-{revision}" in told["message"]
    world.operator.settle(calm=1)
    rest = [(obj, found) for obj, found in zip(mine, made, strict=True) if obj["kind"] != "ConfigMap"]
    _untouched(world, [obj for obj, _ in rest], [found for _, found in rest])

    world.delete()
    world.wait("ours gone", lambda: not world.children(pods=True))
    _untouched(world, [obj for obj, _ in rest], [found for _, found in rest])


def _untouched(world: World, objects: list[Object], made: list[Object]) -> None:
    for obj, before in zip(objects, made, strict=True):
        now = world.child(obj["kind"], obj["metadata"]["name"])
        assert now is not None, obj
        managers = [entry["manager"] for entry in now["metadata"]["managedFields"]]
        assert "omni-operator" not in managers, (obj["kind"], managers)
        # Other controllers write to a Deployment's status and annotations, so its version says too much.
        version = "generation" if obj["kind"] == "Deployment" else "resourceVersion"
        assert now["metadata"][version] == before["metadata"][version], obj["kind"]
        assert now["metadata"]["uid"] == before["metadata"]["uid"]
        assert "ownerReferences" not in now["metadata"]


def _replace(path: str, value: object) -> Object:
    return {"op": "replace", "path": path, "value": value}


def _deployment(name: str) -> Object:
    labels = {"app": "somebody-else"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "other:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }


def _network_policy(name: str) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
