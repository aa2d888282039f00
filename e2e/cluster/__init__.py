"""A real kind cluster with KubeRay on a machine that reaches no container registry; README.md says how and why."""
