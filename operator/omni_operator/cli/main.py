"""The command line: `omni ...` or, since it is also installed as kubectl-omni, `kubectl omni ...`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omni_operator import __version__
from omni_operator.cli.access import Access, AccessError

OUTPUTS = ("table", "json", "yaml", "manifests", "svg")
LEVELS = ("privileged", "baseline", "restricted")


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

    nodes = argparse.ArgumentParser(add_help=False)
    nodes.add_argument(
        "--nodes",
        type=Path,
        help="nodes from a file instead of a cluster (`kubectl get nodes -o yaml`; Pods and Namespaces in it count too)",
    )
    spec = argparse.ArgumentParser(add_help=False)
    spec.add_argument("--pod-security", choices=LEVELS, help="level the namespace enforces")

    plan = commands.add_parser(
        "plan", parents=[common, nodes, spec], help="what would be decided, without changing anything"
    )
    plan.add_argument("-f", "--file", type=Path, required=True, help="an OmniDeployment; - for standard input")
    plan.add_argument("-o", "--output", choices=OUTPUTS, default="table")
    plan.add_argument("--diff", action="store_true", help="what would change of what runs under this name")
    plan.add_argument("--against", type=Path, help="with --diff: compare with the plan of this file instead")

    explain = commands.add_parser(
        "explain", parents=[common, nodes, spec], help="why each transport was chosen, and what would give a better one"
    )
    explain.add_argument("-f", "--file", type=Path, help="an OmniDeployment; without it, NAME in the cluster")
    explain.add_argument(
        "words", nargs="*", metavar="[NAME] [EDGE]", help="EDGE is 'thinker->talker', thinker-talker or thinker,talker"
    )

    inventory = commands.add_parser(
        "inventory", parents=[common, nodes], help="what the operator sees of the nodes, and why one counts or not"
    )
    inventory.add_argument("-o", "--output", choices=["table", "json"], default="table")

    chat = commands.add_parser("chat", parents=[common], help="one request through the public Service")
    chat.add_argument("name")
    chat.add_argument("prompt")
    chat.add_argument("--audio", type=Path, help="write the spoken answer to this WAV file")
    return top


def run(args: argparse.Namespace) -> int:
    """Runs one command; its exit code."""
    if args.command in {"plan", "explain", "inventory"}:
        return _on_nodes(args)
    access = Access(context=args.context, namespace=args.namespace)
    if args.command == "chat":
        from omni_operator.cli.chat import chat

        return chat(access, args.name, prompt=args.prompt, audio=args.audio)
    from omni_operator.cli import status_command

    if args.watch or args.wait:
        return status_command.watch(access, args.name, until_ready=args.wait, seconds=args.timeout)
    return status_command.show(access, args.name)


def _on_nodes(args: argparse.Namespace) -> int:
    """The commands that need nodes and no more, which a file can give."""
    from omni_operator.cli.decided import Source
    from omni_operator.planning.model import PodSecurity

    access = None if args.nodes else Access(context=args.context, namespace=args.namespace)
    asked = getattr(args, "pod_security", None)
    level = PodSecurity(asked) if asked else None
    source = Source(nodes=args.nodes, access=access, namespace=args.namespace, security=level)
    if args.command == "inventory":
        from omni_operator.cli.inventory_command import inventory

        return inventory(source=source, output=args.output)
    if args.command == "explain":
        from omni_operator.cli.explain_command import explain_file, explain_running

        if args.file is not None:
            return explain_file(args.file, source=source, edge=args.words[0] if args.words else None)
        assert access is not None
        name, *edge = args.words
        return explain_running(access, name, edge=edge[0] if edge else None)
    from omni_operator.cli.plan_command import diff, plan

    if args.diff or args.against:
        return diff(file=args.file, source=source, against=args.against, output=args.output)
    return plan(file=args.file, source=source, output=args.output)


def usage(args: argparse.Namespace) -> str | None:
    """What is wrong with arguments that are each allowed; None when nothing is."""
    if args.command == "explain":
        if args.file is None and (not args.words or args.nodes):
            return "give -f FILE, or the NAME of an OmniDeployment in the cluster"
        if len(args.words) > (1 if args.file is not None else 2):
            return "too many words; quote 'thinker->talker', or write thinker,talker"
    if args.command == "plan" and (args.diff or args.against):
        if args.nodes and not args.against:
            return "--diff without a cluster needs --against FILE"
        if args.output not in {"table", "json", "yaml"}:
            return "--diff goes with -o table, json or yaml"
    return None


def main() -> None:
    """Entry point of the console scripts."""
    arguments = parser()
    args, rest = arguments.parse_known_args()
    if args.command == "explain" and not any(word.startswith("-") for word in rest):
        args.words += rest  # argparse takes words of one argument only as long as no option is between them
    elif rest:
        arguments.error(f"unrecognized arguments: {' '.join(rest)}")
    if wrong := usage(args):
        arguments.error(wrong)
    try:
        sys.exit(run(args))
    except AccessError as exc:
        sys.exit(f"omni: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)
