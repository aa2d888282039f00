"""`mooncake_master`: the two ports and the metadata path that a MooncakeStore client looks for."""

import argparse
import os
import signal
import sys

from .web import listen


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    parser = argparse.ArgumentParser(prog="mooncake_master")
    parser.add_argument("--rpc_port", "-rpc_port", type=int, default=50051)
    parser.add_argument("--http_metadata_server_port", "-http_metadata_server_port", type=int, default=8080)
    parser.add_argument("--metrics_port", "-metrics_port", type=int, default=9003)
    args, _ = parser.parse_known_args()
    listen(args.rpc_port, {})
    listen(args.http_metadata_server_port, {"GET /metadata": lambda _: (200, {}), "GET /health": lambda _: (200, "OK")})
    listen(args.metrics_port, {"GET /metrics": lambda _: (200, ""), "GET /health": lambda _: (200, "OK")})
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
