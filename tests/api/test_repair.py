"""Children that somebody edits or deletes by hand, and objects of other owners."""

from __future__ import annotations

import pytest

from tests.api.namespace_under_test import TCP, NamespaceUnderTest, Object

_BAD_IMAGE = "registry.invalid/other:1"


def test_children_edited_by_hand_are_repaired_with_an_event(space: NamespaceUnderTest) -> None:
    space.create(**TCP)
    revision = space.ready()["status"]["revision"]
    space.operator.settle(calm=1)
    server, cluster = f"demo-{revision}-0-serve", f"demo-{revision}-0"
    image = "/spec/template/spec/containers/0/image"
    ray_image = "/spec/workerGroupSpecs/0/template/spec/containers/0/image"
    space.patch("Deployment", server, [_replace(image, _BAD_IMAGE)])
    space.patch("RayCluster", cluster, [_replace(ray_image, _BAD_IMAGE)])
    space.patch("Service", "demo", [_replace("/spec/selector", {"app": "other"})])

    def repaired() -> bool:
        live, ray, service = (
            space.child("Deployment", server),
            space.child("RayCluster", cluster),
            space.child("Service", "demo"),
        )
        assert live is not None
        assert ray is not None
        assert service is not None
        return (
            live["spec"]["template"]["spec"]["containers"][0]["image"] != _BAD_IMAGE
            and ray["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"] != _BAD_IMAGE
            and service["spec"]["selector"].get("omni.vllm.ai/revision") == revision
        )

    space.wait("repairs", repaired)
    space.ready()
    space.operator.settle(calm=1)
    notes = {event["note"] for event in space.events() if event["reason"] in {"Repaired", "Updated"}}
    assert any(note.startswith(f"Deployment {server}: ") and "image" in note for note in notes), notes
    assert any(note.startswith(f"RayCluster {cluster}: ") and "image" in note for note in notes), notes
    assert any(note.startswith("Service demo: ") and "selector" in note for note in notes), notes
    assert len(notes) == 3, notes
    assert space.get()["status"]["revision"] == revision


@pytest.mark.parametrize(
    "kind", ["ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service", "Deployment", "RayCluster"]
)
def test_a_deleted_child_is_made_again_with_an_event(ready_space: NamespaceUnderTest, kind: str) -> None:
    space = ready_space
    space.operator.settle(calm=0.5)
    names = sorted(name for found, name in space.children() if found == kind)
    name, before = names[0], space.versions()
    told = len(space.events())
    space.drop(kind, name)
    space.wait(f"{kind} again", lambda: (kind, name) in space.children())
    space.ready()
    space.operator.settle(calm=1)
    after = space.versions()
    assert set(after) == set(before)
    others = {
        key
        for key in before
        if key != (kind, name) and key[0] not in {"RayCluster", "Deployment", "PodDisruptionBudget"}
    }
    assert {key: after[key] for key in others} == {key: before[key] for key in others}
    repair_notes = [event["note"] for event in space.events()[told:] if event["reason"] == "Repaired"]
    assert repair_notes.count(f"{kind} {name} was gone and has been made again") == 1
    if kind != "RayCluster":  # whose server is made again as well
        assert len(repair_notes) == 1


@pytest.fixture(scope="module")
def _module_spaces() -> dict[str, NamespaceUnderTest]:
    return {}


@pytest.fixture
def ready_space(_module_spaces: dict[str, NamespaceUnderTest], space: NamespaceUnderTest) -> NamespaceUnderTest:
    """One pipeline for all deletions: each of them is repaired."""
    if "it" not in _module_spaces:
        kept = NamespaceUnderTest(control_plane=space.control_plane, operator=space.operator, namespace="repairs")
        kept.control_plane.ensure_namespace(kept.namespace)
        kept.create(**TCP)
        _module_spaces["it"] = kept
    found = _module_spaces["it"]
    found.ready()
    return found


def test_objects_of_other_owners_are_not_changed(space: NamespaceUnderTest) -> None:
    space.create(**TCP)
    space.wait("a revision", lambda: space.get().get("status", {}).get("revision"))
    revision = space.get()["status"]["revision"]
    space.wait("children", lambda: len(space.children()) == 9)
    space.delete()
    space.wait("all gone", lambda: not space.children(pods=True))
    space.wait("forgotten", lambda: not space.control_plane.get(space.path())["items"])

    mine = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "demo"},
            # It contradicts no field that the operator would apply: only its owner differs.
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
    made = [space.control_plane.ok("POST", space.child_path(obj["kind"], "").rstrip("/"), obj) for obj in mine]
    space.create(**TCP)
    told = space.until("Progressing", status="False", reason="ForeignObject")
    assert f"ConfigMap demo-{revision}" in told["message"]
    assert "delete or rename it" in told["message"]
    _untouched(space, mine, made)
    assert not space.list("RayCluster"), "nothing may be made from a plan that could not be kept"

    space.drop("ConfigMap", f"demo-{revision}")
    told = space.until("Progressing", status="False", reason="ForeignObject", seconds=90)
    space.wait(
        "the others in the message",
        lambda: "Service demo" in space.condition("Progressing").get("message", ""),
        seconds=90,
    )
    told = space.condition("Progressing")
    assert f"Deployment demo-{revision}-0-serve" in told["message"]
    assert f"NetworkPolicy demo-{revision}" in told["message"]
    space.operator.settle(calm=1)
    rest = [(obj, found) for obj, found in zip(mine, made, strict=True) if obj["kind"] != "ConfigMap"]
    _untouched(space, [obj for obj, _ in rest], [found for _, found in rest])

    space.delete()
    space.wait("ours gone", lambda: not space.children(pods=True))
    _untouched(space, [obj for obj, _ in rest], [found for _, found in rest])


def _untouched(space: NamespaceUnderTest, objects: list[Object], made: list[Object]) -> None:
    for obj, before in zip(objects, made, strict=True):
        now = space.child(obj["kind"], obj["metadata"]["name"])
        assert now is not None, obj
        managers = [entry["manager"] for entry in now["metadata"]["managedFields"]]
        assert "omni-operator" not in managers, (obj["kind"], managers)
        # Other controllers also write a Deployment's status and annotations.
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


@pytest.mark.parametrize("kind", ["ConfigMap", "Service", "Deployment", "RayCluster"])
@pytest.mark.parametrize("label", ["omni.vllm.ai/revision", "omni.vllm.ai/name", "app.kubernetes.io/managed-by"])
def test_a_child_that_somebody_labels_otherwise_is_repaired_and_not_ended(
    ready_space: NamespaceUnderTest, kind: str, label: str
) -> None:
    """It is found by its name, also when a label takes it out of the watch."""
    space = ready_space
    space.operator.settle(calm=0.5)
    before = {key: child["metadata"]["uid"] for key, child in space.children().items()}
    revision = space.get()["status"]["revision"]
    name = {"RayCluster": f"demo-{revision}-0", "Deployment": f"demo-{revision}-0-serve"}.get(kind, f"demo-{revision}")
    name = f"{name}-store" if kind == "Service" else name
    path = "/metadata/labels/" + label.replace("/", "~1")
    space.patch(kind, name, [_replace(path, "other")])

    def repaired() -> bool:
        child = space.child(kind, name)
        return child is not None and child["metadata"]["labels"].get(label) != "other"

    space.wait("the label", repaired)
    space.ready()
    space.operator.settle(calm=1)
    assert {key: child["metadata"]["uid"] for key, child in space.children().items()} == before
