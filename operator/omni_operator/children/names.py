"""Names, labels and annotations of children: the single place where they are spelled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from omni_operator.api.base import API_VERSION, GROUP, KIND

MANAGER = "omni-operator"
MANAGED_BY = "app.kubernetes.io/managed-by"
NAME = f"{GROUP}/name"
REVISION = f"{GROUP}/revision"
COMPONENT = f"{GROUP}/component"
REPLICA = f"{GROUP}/replica"
SPEC_DIGEST = f"{GROUP}/spec-digest"
RENDERED_BY = f"{GROUP}/rendered-by"
# A copy of the revision's record, compressed, on its serving Deployments: a ConfigMap that somebody
# deletes comes back from it.
RECORD = f"{GROUP}/record"
FINALIZER = f"{GROUP}/node-memory"

CONFIG_DIR = "/etc/omni"
STAGES_FILE = "stages.yaml"
LAUNCHER_FILE = "serve_ray.py"
SUPERVISOR_FILE = "run_stages.py"
IMAGE_CHECK_FILE = "check_image.py"
MESSAGE_FILE = "message.py"  # which the three others import
PLAN_FILE = "plan.json"
SPEC_FILE = "spec.json"
NODE_SHM_PARENT = "/dev/shm/omni-operator"  # noqa: S108  the node's own shared memory; every folder below belongs to one revision


# Names of the engine's containers.
SERVER_CONTAINER, WORKER_CONTAINER = "server", "ray-worker"


class Component(StrEnum):
    """What a child is for."""

    CONFIG = "config"
    RAY = "ray"
    HEAD = "head"
    WORKER = "worker"
    SERVING = "serving"
    STORE = "store"
    CLEANUP = "cleanup"
    SERVICE = "service"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The OmniDeployment that owns the children."""

    namespace: str
    name: str
    uid: str

    def reference(self) -> dict[str, object]:
        """Its owner reference; deletion is never blocked by a child."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }


def base(owner: Owner, revision: str) -> str:
    """Start of the names of a revision's children."""
    return f"{owner.name}-{revision}"


def ray_cluster(owner: Owner, revision: str, replica: int) -> str:
    """RayCluster of one replica."""
    return f"{base(owner, revision)}-{replica}"


def serving(owner: Owner, revision: str, replica: int) -> str:
    """Serving Deployment of one replica."""
    return f"{base(owner, revision)}-{replica}-serve"


def head_service(owner: Owner, revision: str, replica: int) -> str:
    """Headless Service of a replica's serving pod, where headless stages find the head."""
    return f"{base(owner, revision)}-{replica}-head"


def store(owner: Owner, revision: str) -> str:
    """Mooncake master Deployment and Service of a revision."""
    return f"{base(owner, revision)}-store"


def head_address(owner: Owner, cluster: str) -> str:
    """DNS name of a RayCluster's head; KubeRay makes the Service (`<cluster>-head-svc`, 1.6.2)."""
    return f"{cluster}-head-svc.{owner.namespace}.svc"


def node_folder(owner: Owner, revision: str, replica: int) -> str:
    """Folder below NODE_SHM_PARENT; the uid keeps two objects of one name apart in time."""
    return f"{owner.uid.split('-', 1)[0]}-{revision}-{replica}"


def folder_revision(owner: Owner, folder: str) -> str | None:
    """The revision that a folder belongs to; None when it is none of this OmniDeployment."""
    start = f"{owner.uid.split('-', 1)[0]}-"
    match = re.fullmatch(r"([0-9a-f]{8})-[0-9]{1,2}", folder.removeprefix(start))
    return match.group(1) if match and folder.startswith(start) else None


def labels(
    owner: Owner, component: Component, *, revision: str | None = None, replica: int | None = None
) -> dict[str, str]:
    """Labels of a child."""
    out = {MANAGED_BY: MANAGER, NAME: owner.name, COMPONENT: component.value}
    if revision is not None:
        out[REVISION] = revision
    if replica is not None:
        out[REPLICA] = str(replica)
    return out


def selector(owner: Owner, component: Component | None, *, revision: str, replica: int | None = None) -> dict[str, str]:
    """Labels that pick pods of a revision."""
    out = {NAME: owner.name, REVISION: revision}
    if component is not None:
        out[COMPONENT] = component.value
    if replica is not None:
        out[REPLICA] = str(replica)
    return out


def metadata(
    owner: Owner,
    name: str,
    component: Component,
    *,
    revision: str | None = None,
    replica: int | None = None,
    annotations: dict[str, str] | None = None,
    extra_labels: dict[str, str] | None = None,
) -> dict[str, object]:
    """Metadata of a child."""
    out: dict[str, object] = {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**(extra_labels or {}), **labels(owner, component, revision=revision, replica=replica)},
        "ownerReferences": [owner.reference()],
    }
    if annotations:
        out["annotations"] = annotations
    return out
