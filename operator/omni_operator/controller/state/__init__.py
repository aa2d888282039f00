"""What the controller knows.

Caches of the cluster, and the frozen Snapshot that one reconcile is decided on. No writes.
"""
