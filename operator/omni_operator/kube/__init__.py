"""The Kubernetes API as this operator uses it: a small client, reflectors, and a keyed queue.

No knowledge of omni things.
"""
