"""The bench applies the operator's fields, from managedFields, without those of the server."""

from __future__ import annotations

from bench.scale.owned import applied_by


def test_only_the_managers_fields_come_back_and_the_owner_is_left_out() -> None:
    live = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "a",
            "namespace": "bench",
            "uid": "1",
            "labels": {"mine": "1", "theirs": "2"},
            "ownerReferences": [{"uid": "9", "kind": "OmniDeployment"}],
            "managedFields": [
                {
                    "manager": "omni-operator",
                    "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:mine": {}}, "f:ownerReferences": {'k:{"uid":"9"}': {}}},
                        "f:spec": {
                            "f:selector": {},
                            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}}},
                            "f:finalizers": {'v:"x"': {}},
                        },
                    },
                },
                {"manager": "omni-operator", "subresource": "status", "fieldsV1": {"f:status": {}}},
                {"manager": "other", "fieldsV1": {"f:spec": {"f:clusterIP": {}}}},
            ],
        },
        "spec": {
            "clusterIP": "10.96.0.7",
            "selector": {"app": "a"},
            "finalizers": ["x", "y"],
            "ports": [
                {"port": 80, "protocol": "TCP", "name": "http", "targetPort": 80},
                {"port": 81, "protocol": "TCP", "name": "not-mine"},
            ],
        },
        "status": {"loadBalancer": {}},
    }
    assert applied_by("omni-operator", live) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a", "namespace": "bench", "labels": {"mine": "1"}},
        "spec": {"selector": {"app": "a"}, "finalizers": ["x"], "ports": [{"port": 80, "name": "http"}]},
    }
