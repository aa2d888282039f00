"""The situations whose children are kept in tests/golden, one for each thing that changes them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children import cleanup_pod
from omni_operator.children.names import Owner, node_folder
from omni_operator.children.render import with_record as children
from omni_operator.children.revision import Revision
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.namespace import PodSecurity
from tests.unit import make
from tests.unit.make import OWNER, inventory, node

ZONE = "topology.kubernetes.io/zone"
EVERYTHING: dict[str, Any] = {
    "model": {
        "name": "/models/qwen",
        "servedName": "omni",
        "pipeline": "qwen2_5_omni",
        "weights": {"claim": {"claimName": "weights", "subPath": "qwen"}},
        "tokenSecret": {"name": "hugging-face", "key": "hub"},
    },
    "engine": {
        "version": "0.16.0",
        "image": "registry.example/omni@sha256:0",
        "imagePullPolicy": "Always",
        "imagePullSecrets": ["registry"],
        "backend": "Ray",
        "extraArgs": ["--log-stats", "--max-log-len=80"],
        "env": [
            {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
            {"name": "S3_KEY", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "key"}}},
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "1"},
        ],
    },
    "accelerator": {"type": "nvidia", "resourceName": "nvidia.com/mig-2g.20gb", "runtimeClassName": "nvidia"},
    "stages": [
        {
            "name": "thinker",
            "resources": {"requests": {"cpu": "4", "memory": "24Gi"}, "limits": {"memory": "32Gi"}},
            "engineArgs": {"max_model_len": 16384},
        },
        {"name": "talker", "resources": {"requests": {"cpu": "500m", "memory": "8Gi"}}},
    ],
    "placement": {
        "strategy": "Spread",
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu-model", "operator": "Exists"}]}]
                }
            }
        },
        "topologyKey": ZONE,
        "priorityClassName": "serving",
        "schedulerName": "volcano",
        "labels": {"kueue.x-k8s.io/queue-name": "gpu"},
        "annotations": {"example.com/team": "speech"},
    },
    "transport": {
        "rdma": "Prefer",
        "rdmaResource": "rdma/hca",
        "rdmaDevice": "mlx5_0",
        "sharedMemory": "PodOnly",
        "edges": [{"from": "thinker", "to": "talker", "connector": "MooncakeStore", "protocol": "rdma"}],
    },
    "serving": {
        "port": 9000,
        "service": {"type": "LoadBalancer", "annotations": {"example.com/lb": "internal"}},
        "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "4", "memory": "4Gi"}},
        "probes": {"rayWaitSeconds": 120, "initTimeoutSeconds": 240, "livenessFailureSeconds": 60},
        "terminationGracePeriodSeconds": 90,
    },
    "ray": {
        "version": "2.53.0",
        "port": 6400,
        "head": {"resources": {"limits": {"cpu": "1", "memory": "2Gi"}}},
        "tokenAuth": "Enabled",
        "headStartParams": {"system-config": "{}"},
        "workerStartParams": {"object-store-memory": "1000000000"},
    },
    "rollout": {"strategy": "Hold", "progressDeadlineSeconds": 900},
    "replicas": 2,
}
CPU = {"model": {"name": "/opt/tiny-omni"}, "accelerator": {"type": "cpu"}, "engine": {"image": "localhost/omni:cpu"}}
WEIGHTS = {"model": {"name": "/models/q", "pipeline": "qwen2_5_omni", "weights": {"claim": {"claimName": "w"}}}}


ONE_EACH = inventory(node("a", 1), node("b", 1))
ONE_EACH_RDMA = inventory(node("a", 1, rdma=1), node("b", 1, rdma=1))
HUNYUAN: dict[
    str, Any
] = {  # two replicas of a pipeline of two stages, the second of which has a wider split and a pool of its own
    "model": {"name": "tencent/HunyuanImage-3.0", "pipeline": "hunyuan_image_3_moe"},
    "engine": {"version": "0.30.0", "backend": "Headless"},
    "stages": [
        {"name": "AR", "resources": {"requests": {"memory": "64Gi"}}},
        {
            "name": "dit",
            "replicas": 2,
            "nodeSelector": {"kubernetes.io/hostname": "c"},
            "tolerations": [{"key": "image", "operator": "Exists"}],
            "resources": {"requests": {"memory": "96Gi"}},
        },
    ],
    "transport": {"rdmaDevice": "mlx5_0"},
}


def _pool(*names: str) -> Inventory:
    labels = {"pool": "gpu", "gpu-model": "a100", ZONE: "a"}
    return inventory(*(node(n, rdma=8, allocatable={"nvidia.com/mig-2g.20gb": 4}, labels=labels) for n in names))


@dataclass(frozen=True)
class Case:
    spec: OmniDeploymentSpec
    nodes: Inventory = make.TWO_NODES
    security: PodSecurity = make.PRIVILEGED
    owner: Owner = OWNER
    cleanup_folders: tuple[str, ...] = field(default=())

    def revision(self) -> Revision:
        """Its name is fixed, so that a change of one field is not a change of every file's name."""
        return replace(make.revision(self.spec, self.nodes, security=self.security), name="0c0ffee0")

    def children(self) -> list[dict[str, Any]]:
        revision = self.revision()
        made = children(self.owner, revision, replicas=self.spec.replicas, service=self.spec.serving.service)
        folder = node_folder(self.owner, revision.name, 0)
        for where in self.cleanup_folders:
            made.append(
                cleanup_pod.build(self.owner, self.spec.engine, revision=revision.name, node=where, folder=folder)
            )
        return made


CASES = {
    "two-nodes-tcp": Case(make.spec()),
    "one-node-shm": Case(make.spec(), make.ONE_NODE, cleanup_folders=("a",)),
    "rdma": Case(make.spec(), make.RDMA_NODES),
    "cpu": Case(make.spec(**CPU), inventory(node("a"))),
    "restricted": Case(make.spec(**WEIGHTS), make.RDMA_NODES, PodSecurity.RESTRICTED),
    "cluster-ref": Case(make.spec(ray={"clusterRef": {"name": "theirs"}})),
    "topology-key": Case(
        make.spec(placement={"topologyKey": ZONE}, replicas=2),
        inventory(*(node(name, 3, labels={ZONE: name}) for name in "ab")),
    ),
    "local": Case(make.spec(engine={"version": "0.30.0"}), make.ONE_NODE),
    "local-0.18": Case(make.spec(engine={"version": "0.18.0"}), make.ONE_NODE),
    "headless-store": Case(make.spec(engine={"version": "0.30.0"}), ONE_EACH),
    "headless-spanning": Case(
        make.spec(engine={"version": "0.30.0"}, stages=[{"name": "talker", "accelerators": 2}]),
        inventory(*(node(n, 1) for n in "abcd")),
    ),
    "headless-nixl": Case(
        make.spec(model={"pipeline": "qwen3_omni_moe"}, engine={"version": "0.30.0", "nixl": True}), ONE_EACH_RDMA
    ),
    "headless-transfer-engine": Case(make.spec(**HUNYUAN), inventory(*(node(n, 4, rdma=2) for n in "abc"))),
    "everything": Case(OmniDeploymentSpec.model_validate(EVERYTHING), _pool("a", "b")),
}
LONGEST = Case(  # names of the greatest length, and shared memory
    make.spec(replicas=32),
    inventory(*(node(f"n{number:02}", 3) for number in range(32))),
    owner=Owner(namespace="n" * 63, name="a" * 40, uid=OWNER.uid),
    cleanup_folders=("a",),
)
LONGEST_STORE = replace(
    LONGEST, nodes=inventory(*(node(f"n{number:02}", 2) for number in range(48))), cleanup_folders=()
)
