"""The command line: `omni ...` or, since it is also installed as kubectl-omni, `kubectl omni ...`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omni_operator import __version__
from omni_operator.cli.access import Access, AccessError


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    top = argparse.ArgumentParser(prog="omni", description="See and plan OmniDeployments.")
    top.add_argument("--version", action="version", version=f"omni {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--context", help="context of the kubeconfig")
    common.add_argument("-n", "--namespace", help="namespace; that of the context when not given")
    commands = top.add_subparsers(dest="command", required=True)

    status = commands.add_parser(
        "status", parents=[common], help="pods, edges with their transport, conditions, the next step"
    )
    status.add_argument("name")
    status.add_argument("-w", "--watch", action="store_true", help="keep looking")
    status.add_argument("--wait", action="store_true", help="keep looking until it is Ready")
    status.add_argument("--timeout", type=float, default=1800, help="seconds to look (default 1800)")

    plan = commands.add_parser("plan", parents=[common], help="what would be decided, without changing anything")
    plan.add_argument("-f", "--file", type=Path, required=True, help="an OmniDeployment; - for standard input")
    plan.add_argument("--nodes", type=Path, help="nodes from a file (`kubectl get nodes -o yaml`) instead of a cluster")
    plan.add_argument(
        "--pod-security", choices=["privileged", "baseline", "restricted"], help="level the namespace enforces"
    )
    plan.add_argument("-o", "--output", choices=["table", "json", "yaml", "manifests"], default="table")

    chat = commands.add_parser("chat", parents=[common], help="one request through the public Service")
    chat.add_argument("name")
    chat.add_argument("prompt")
    chat.add_argument("--audio", type=Path, help="write the spoken answer to this WAV file")
    return top


def run(args: argparse.Namespace) -> int:
    """Runs one command; its exit code."""
    access = None
    if not (args.command == "plan" and args.nodes):
        access = Access(context=args.context, namespace=args.namespace)
    if args.command == "plan":
        from omni_operator.cli.plan_command import plan

        return plan(file=args.file, nodes=args.nodes, access=access, security=args.pod_security, output=args.output)
    assert access is not None
    if args.command == "chat":
        from omni_operator.cli.chat import chat

        return chat(access, args.name, prompt=args.prompt, audio=args.audio)
    from omni_operator.cli import status_command

    if args.watch or args.wait:
        return status_command.watch(access, args.name, until_ready=args.wait, seconds=args.timeout)
    return status_command.show(access, args.name)


def main() -> None:
    """Entry point of the console scripts."""
    try:
        sys.exit(run(parser().parse_args()))
    except AccessError as exc:
        sys.exit(f"omni: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)
