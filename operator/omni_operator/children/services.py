"""The public Service and the head's own.

The public one never changes its name, and its selector is the active revision.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from omni_operator.api.ports import HEAD_GENERATION, HEAD_REGISTRATION
from omni_operator.api.serving_spec import ServiceSpec
from omni_operator.children import names
from omni_operator.children.names import Component, Owner
from omni_operator.children.revision import Revision, copy_of


def public(owner: Owner, revision: Revision, service: ServiceSpec, *, keeps_record: bool = False) -> dict[str, Any]:
    """The Service that clients use.

    With `keeps_record` it has the copy of the revision's record that serving Deployments have
    otherwise: without replicas there are none.
    """
    port = revision.spec.serving.port
    # The digest differs when an annotation leaves the spec, which the live object alone could not
    # tell.
    digest = hashlib.sha256(json.dumps(dict(service.annotations), sort_keys=True).encode()).hexdigest()[:16]
    annotations = {**service.annotations, names.SPEC_DIGEST: digest}
    if keeps_record:
        annotations[names.RECORD] = copy_of(revision)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(owner, owner.name, Component.SERVICE, annotations=annotations),
        "spec": {
            "type": service.type.value,
            "selector": names.selector(owner, Component.SERVING, revision=revision.name),
            "ports": [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def head(owner: Owner, revision: Revision, replica: int) -> dict[str, Any]:
    """Headless Service of a replica's server (backend Headless).

    Stages register at the address of its pod before it is ready.
    """
    ports = {"master": HEAD_REGISTRATION, "generation": HEAD_GENERATION}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(
            owner,
            names.head_service(owner, revision.name, replica),
            Component.SERVICE,
            revision=revision.name,
            replica=replica,
        ),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": names.selector(owner, Component.SERVING, revision=revision.name, replica=replica),
            "ports": [
                {"name": key, "port": port, "targetPort": port, "protocol": "TCP"} for key, port in ports.items()
            ],
        },
    }


def endpoint(owner: Owner, revision: Revision) -> str:
    """Base URL inside the cluster."""
    return f"http://{owner.name}.{owner.namespace}.svc:{revision.spec.serving.port}"
