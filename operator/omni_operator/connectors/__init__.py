"""The connectors: one module each, behind one interface (base.py), in one registry (registry.py).

A module answers everything about its connector: where it works, what it needs of the image and of
pods, its entry in the stage configuration, its sizes and ports, its measured times, and how its use
is observed. What a release has of a connector (class name, keys, payload kinds) is in the release's
record (engine/releases.py). A new connector is one more module and one line in registry.py.
"""
