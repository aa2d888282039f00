"""`ray`: start (head or node), stop, health-check, --version. Nodes register on the GCS port, as Ray's do."""

import argparse
import contextlib
import json
import os
import platform
import secrets
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from .web import Reply, call, listen

RUNTIME = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "standin"  # one file per node process, named by its pid
LOST_AFTER = 3.0  # seconds without a heartbeat until a node is DEAD (Ray: about 14)
GIVE_UP_AFTER = 10.0  # seconds without the head until a node ends (Ray: 60)
# every option of Ray 2.53's `ray start`, as its command line parser lists them
_VALUES = """node-ip-address node-name redis-username redis-password redis-shard-ports object-manager-port
 node-manager-port min-worker-port max-worker-port worker-port-list ray-client-server-port memory object-store-memory
 resources include-dashboard dashboard-host dashboard-agent-grpc-port runtime-env-agent-port plasma-directory
 object-spilling-directory autoscaling-config temp-dir system-config metrics-export-port tracing-startup-hook labels
 labels-file include-log-monitor system-reserved-cpu system-reserved-memory cgroup-path log-style log-color"""
_FLAGS = """block head no-redirect-output enable-object-reconstruction no-monitor ray-debugger-external
 disable-usage-stats enable-resource-isolation"""


def versions() -> dict[str, str]:
    """Return what both sides of `ray start --address` compare."""
    return {"ray": os.environ.get("STANDIN_RAY_VERSION", "2.53.0"), "python": platform.python_version()}


def own_ip(towards: str = "192.0.2.1") -> str:
    """Return the address this host would use to reach `towards` (nothing is sent)."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((towards, 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


class Head:
    """The table of nodes."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, float] = {}

    def register(self, node: dict[str, Any]) -> Reply:
        """Add a node."""
        self.nodes[node["node_id"]] = node
        return self.beat(node)

    def beat(self, node: dict[str, Any]) -> Reply:
        """Note that a node lives, or that it says farewell."""
        if node["node_id"] not in self.nodes:
            return 404, {}  # a node of an earlier head: it has to end, as Ray's does
        self.seen[node["node_id"]] = time.monotonic()
        if node["state"] == "DEAD":
            self.nodes[node["node_id"]] |= {"state": "DEAD", "state_message": node["state_message"]}
        return 200, {}

    def listing(self, _: dict[str, Any]) -> Reply:
        """Return all nodes in the shape of /api/v0/nodes; dead ones stay in it with their resources, as in Ray."""
        for key, node in self.nodes.items():
            if node["state"] == "ALIVE" and not node["is_head_node"] and time.monotonic() - self.seen[key] > LOST_AFTER:
                reason = "Unexpected termination: health check failed due to missing too many heartbeats"
                node |= {"state": "DEAD", "state_message": reason}
        count = dict.fromkeys(("total", "num_after_truncation", "num_filtered"), len(self.nodes))
        rows = count | {"result": list(self.nodes.values()), "partial_failure_warning": "", "warnings": None}
        return 200, {"result": True, "msg": "", "data": {"result": rows}}

    def public(self, _: dict[str, Any]) -> Reply:
        """Return the listing without what only the stand-in knows."""
        status, answer = self.listing({})
        assert isinstance(answer, dict)
        rows = answer["data"]["result"]
        rows["result"] = [{k: v for k, v in node.items() if k != "agent"} for node in rows["result"]]
        return status, answer

    def serve(self, gcs: int, dashboard: int) -> None:
        """Listen on the head's two ports."""
        version = {"version": "4", "ray_version": versions()["ray"], "ray_commit": "standin", "session_name": "standin"}
        public = {"GET /api/version": lambda _: (200, version), "GET /api/v0/nodes": self.public}
        listen(dashboard, {**public, "GET /api/gcs_healthz": lambda _: (200, "success")}, protect=True)
        own = {"GET /standin/versions": lambda _: (200, versions()), "GET /standin/nodes": self.listing}
        listen(gcs, {**own, "POST /standin/node": self.register, "POST /standin/beat": self.beat}, protect=True)


def take(body: dict[str, Any]) -> Reply:
    """Be the stage of this node: read and remove the shared memory segment, if the edge has one."""
    if name := body.get("segment"):
        try:
            (Path("/dev/shm") / name).read_bytes()
            (Path("/dev/shm") / name).unlink()
            (Path("/dev/shm") / f"shm_{name}_lockfile.lock").unlink()
        except (FileNotFoundError, PermissionError):
            return 404, {}  # this node's /dev/shm, or its user, is not the writer's
    return 200, {}


def start(args: argparse.Namespace) -> int:
    """Run a node, in this process with --block, else in one that stays behind."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # process 1 of a container has no default action
    host, port = "127.0.0.1", args.port
    if not args.head:
        host, port = _find(args.address)
    gcs = f"http://{host}:{port}"
    ip = args.node_ip_address or own_ip(*([] if args.head else [host]))
    if not args.head:
        _compare(call(f"{gcs}/standin/versions"), ip)
    # like Ray's: a resource of 0 is absent, not 0
    sizes = {"CPU": args.num_cpus, "GPU": args.num_gpus, f"node:{ip}": 1.0, "memory": float(args.memory or 4e9)}
    sizes |= {"node:__internal_head__": 1.0} if args.head else {}
    sizes |= json.loads(args.resources or "{}")
    name = secrets.token_hex(28)
    node = {"is_head_node": args.head, "state": "ALIVE", "node_id": name, "node_ip": ip, "node_name": ip}
    node |= {"resources_total": {k: float(v) for k, v in sizes.items() if v}, "labels": {"ray.io/node-id": name}}
    node |= {"state_message": None, "agent": f"{ip}:{args.dashboard_agent_listen_port}"}
    ready, told = os.pipe()
    if not args.block and os.fork():
        os.close(told)
        if not os.read(ready, 1):  # the child died before it was up
            return 1
        print("Ray runtime started.\n\nTo terminate the Ray runtime, run\n  ray stop")
        return 0
    if not args.block:
        os.setsid()
    if args.head:
        Head().serve(args.port, args.dashboard_port)
    gcs_state = "success" if args.head else "success (no local gcs)"
    health = {"GET /api/healthz": lambda _: (200, f"raylet: success\ngcs: {gcs_state}")}
    routes = {"GET /api/local_raylet_healthz": lambda _: (200, "success"), "POST /stage/take": take}
    listen(args.dashboard_agent_listen_port, {**health, **routes})
    call(f"{gcs}/standin/node", node)
    RUNTIME.mkdir(parents=True, exist_ok=True)
    (RUNTIME / str(os.getpid())).write_text(gcs)
    os.write(told, b"1")
    if not args.block:
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # so that a caller who reads our output to its end gets there
        os.dup2(1, 2)
    print("Ray runtime started.", flush=True)
    return _stay(gcs, node)


def _find(address: str) -> tuple[str, str]:
    """Wait for the head; returns its address as Ray keeps it: the name is looked up once, a head that moves is lost."""
    name, _, port = address.rpartition(":")
    while True:  # Ray waits for minutes too
        try:
            host = socket.gethostbyname(name)
            call(f"http://{host}:{port}/standin/versions")
            return host, port
        except HTTPError as error:
            reason = "RPC error: InvalidAuthToken: Authentication token is missing or incorrect."
            raise SystemExit(f"ray.exceptions.AuthenticationError: {reason}") from error
        except OSError:
            print("Timed out while waiting for GCS to become available.", file=sys.stderr, flush=True)
            time.sleep(1)


def _compare(head: dict[str, str], ip: str) -> None:
    def both(v: dict[str, str]) -> str:
        return f"    Ray: {v['ray']}\n    Python: {v['python']}\n"

    if head != versions():
        text = f"{both(head)}This process on node {ip} was started with:\n{both(versions())}"
        raise SystemExit(f"RuntimeError: Version mismatch: The cluster was started with:\n{text}")


def _stay(gcs: str, node: dict[str, Any]) -> int:
    def end(*_: object) -> None:
        with contextlib.suppress(OSError):
            message = {"state": "DEAD", "state_message": "Expected termination: received SIGTERM"}
            call(f"{gcs}/standin/beat", {**node, **message}, timeout=0.5)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    heard = time.monotonic()
    while time.monotonic() - heard < GIVE_UP_AFTER:
        time.sleep(0.5)
        try:
            call(f"{gcs}/standin/beat", node, timeout=2)
            heard = time.monotonic()
        except HTTPError:  # unknown here: the head was started anew
            break
        except OSError:
            continue
    print("The node lost its head.", file=sys.stderr)
    return 1


def stop() -> int:
    """End every node that was started here."""
    for file in RUNTIME.glob("*"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.name), signal.SIGTERM)
        file.unlink()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="ray", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ray, version {versions()['ray']}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("stop").add_argument("--force", "-f", action="store_true")
    commands.add_parser("health-check").add_argument("--address", required=True)
    node = commands.add_parser("start", allow_abbrev=False)
    node.add_argument("--address")
    for option, default in (("port", 6379), ("dashboard-port", 8265), ("dashboard-agent-listen-port", 52365)):
        node.add_argument(f"--{option}", type=int, default=default)
    for option in ("num-cpus", "num-gpus"):
        node.add_argument(f"--{option}", type=int, default=os.cpu_count() if option == "num-cpus" else 0)
    for option in _VALUES.split():
        node.add_argument(f"--{option}")
    for option in _FLAGS.split():
        node.add_argument(f"--{option}", action="store_true")
    args = parser.parse_args()
    if args.command == "start":
        if args.head == bool(args.address):
            node.error("exactly one of --head and --address is needed")
        return start(args)
    if args.command == "stop":
        return stop()
    try:
        call(f"http://{args.address}/standin/versions")
    except OSError as error:
        raise SystemExit(f"ray.exceptions.RpcError: {error}") from error
    return 0


if __name__ == "__main__":
    sys.exit(main())
