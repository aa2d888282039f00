"""The pod that removes a revision's shared-memory folder from a node.

It runs once the pods that used the folder are gone. Nothing else can: a crash skips every hook, and
a folder below /dev/shm is memory until somebody removes it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from omni_operator.api.spec import EngineSpec
from omni_operator.children import names, pod
from omni_operator.children.names import NODE_SHM_PARENT, Component, Owner

_PARENT = NODE_SHM_PARENT.replace("/dev/shm", "/node")  # noqa: S108
# The parent goes with its last folder: rmdir refuses while another revision has one.
_SCRIPT = 'rm -rf -- "$1/$2" && { rmdir "$1" 2>/dev/null; test ! -e "$1/$2"; }'


def name_for(owner: Owner, *, node: str, folder: str) -> str:
    """Name of the Pod that removes a folder from a node."""
    return f"{owner.name}-cleanup-{hashlib.sha256(f'{node}/{folder}'.encode()).hexdigest()[:10]}"


def build(owner: Owner, engine: EngineSpec, *, revision: str, node: str, folder: str) -> dict[str, Any]:
    """The Pod.

    It is bound to its node without the scheduler and tolerates everything, so that a drained node
    is cleaned too.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": names.metadata(
            owner, name_for(owner, node=node, folder=folder), Component.CLEANUP, revision=revision
        ),
        "spec": {
            "nodeName": node,
            "restartPolicy": "OnFailure",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 5,
            "tolerations": [{"operator": "Exists"}],
            "imagePullSecrets": [{"name": secret} for secret in engine.image_pull_secrets],
            "volumes": [{"name": "node", "hostPath": {"path": NODE_SHM_PARENT.rsplit("/", 1)[0], "type": "Directory"}}],
            "containers": [
                {
                    "name": "cleanup",
                    "image": pod.engine_image(engine),
                    "imagePullPolicy": engine.image_pull_policy.value,
                    "command": ["bash", "-c", _SCRIPT, "cleanup", _PARENT, folder],
                    "volumeMounts": [{"name": "node", "mountPath": "/node"}],
                    # the kubelet made the folder for root
                    "securityContext": {"allowPrivilegeEscalation": False, "runAsUser": 0},
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    # limits too, for namespaces whose quota demands them
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "16Mi"},
                        "limits": {"cpu": "500m", "memory": "64Mi"},
                    },
                }
            ],
        },
    }
