"""A kind cluster with KubeRay on a machine without a container registry; see README.md."""
