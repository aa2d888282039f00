"""What runs inside the engine's pods.

These programs are data to the rest: children/config_map.py reads their files into the revision's
ConfigMap, from which the pods run them with the Python of the engine's image. So they need the
standard library only and any Python from 3.9 on, they import nothing of the rest, and nothing of
the rest imports them.

When one of them gives up it leaves one line of JSON as its container's termination message, such as

    {"omni": 1, "code": "RayVersionMismatch", "found": "2.52.1", "found_python": null, "cluster":
    "2.53.0", "cluster_python": null}

`omni` is the version of the contract. README.md beside this file has every code with its fields;
`message.py` is the same as a table, and writes the line. controller/state/termination.py reads it,
and controller/conditions/launcher_report.py makes the text for people.
"""
