"""The command line: `omni`, also installed as the kubectl plugin `kubectl omni`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omni_operator import __version__
from omni_operator.cli.access import Access, AccessError

OUTPUTS = ("table", "json", "yaml", "manifests", "svg")
# Those of `omni plan` are in docs/how-to/plan.md.
ACTIONS_EXIT_CODES = """\
exit codes:
  0  it has actions to do now, or nothing to do
  1  the cluster cannot be reached or denies a request, or there is no such OmniDeployment
  2  the spec is not accepted, the record of a revision is unreadable, or the arguments are not valid
  3  it waits for something
  4  a policy of the spec or the nodes cannot meet it
"""
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
    status.add_argument("-w", "--watch", action="store_true", help="watch until the timeout")
    status.add_argument("--wait", action="store_true", help="watch until it is Ready")
    status.add_argument("--timeout", type=float, default=1800, help="seconds to watch (default 1800)")

    actions = commands.add_parser(
        "actions",
        parents=[common],
        help="what the operator does next, and what it waits for",
        description="Shows what the operator does next for an OmniDeployment, without changing anything.",
        epilog=ACTIONS_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions.add_argument("name")
    actions.add_argument("-o", "--output", choices=["text", "json"], default="text")

    nodes = argparse.ArgumentParser(add_help=False)
    nodes.add_argument(
        "--nodes",
        type=Path,
        help="nodes from a file, not a cluster (`kubectl get nodes -o yaml`; Pods and Namespaces in it count too)",
    )
    spec = argparse.ArgumentParser(add_help=False)
    spec.add_argument("--pod-security", choices=LEVELS, help="level the namespace enforces")

    plan = commands.add_parser(
        "plan", parents=[common, nodes, spec], help="what the operator would create, without changing anything"
    )
    plan.add_argument("-f", "--file", type=Path, required=True, help="an OmniDeployment; - for standard input")
    plan.add_argument("-o", "--output", choices=OUTPUTS, default="table")
    plan.add_argument("--diff", action="store_true", help="what would change in the OmniDeployment of this name")
    plan.add_argument("--against", type=Path, help="with --diff: compare with the plan of this file instead")

    explain = commands.add_parser(
        "explain",
        parents=[common, nodes, spec],
        help="why each transport was chosen, and what would give a better one",
    )
    explain.add_argument("-f", "--file", type=Path, help="an OmniDeployment; without it, NAME in the cluster")
    explain.add_argument(
        "words", nargs="*", metavar="[NAME] [EDGE]", help="EDGE is 'thinker->talker', thinker-talker or thinker,talker"
    )

    inventory = commands.add_parser(
        "inventory", parents=[common, nodes], help="nodes with their resources, and why each counts or not"
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
    if args.command == "actions":
        from omni_operator.cli.actions_command import actions

        return actions(access, args.name, output=args.output)
    from omni_operator.cli import status_command

    if args.watch or args.wait:
        return status_command.watch(access, args.name, until_ready=args.wait, seconds=args.timeout)
    return status_command.show(access, args.name)


def _on_nodes(args: argparse.Namespace) -> int:
    """Runs a command that needs no cluster when a file has the nodes."""
    from omni_operator.cli.plan_source import PlanSource
    from omni_operator.topology.namespace import PodSecurity

    access = None if args.nodes else Access(context=args.context, namespace=args.namespace)
    asked = getattr(args, "pod_security", None)
    level = PodSecurity(asked) if asked else None
    source = PlanSource(nodes=args.nodes, access=access, namespace=args.namespace, security=level)
    if args.command == "inventory":
        from omni_operator.cli.inventory_command import inventory

        return inventory(source=source, output=args.output)
    if args.command == "explain":
        from omni_operator.cli.explain_command import explain_file, explain_live

        if args.file is not None:
            return explain_file(args.file, source=source, edge=args.words[0] if args.words else None)
        assert access is not None
        name, *edge = args.words
        return explain_live(access, name, edge=edge[0] if edge else None)
    from omni_operator.cli.plan_command import diff, plan

    if args.diff or args.against:
        return diff(file=args.file, source=source, against=args.against, output=args.output)
    return plan(file=args.file, source=source, output=args.output)


def usage(args: argparse.Namespace) -> str | None:
    """The usage error of arguments that argparse accepts one by one; None without an error."""
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
        args.words += rest  # argparse stops an argument of several words at an option
    elif rest:
        arguments.error(f"unrecognized arguments: {' '.join(rest)}")
    if error := usage(args):
        arguments.error(error)
    try:
        sys.exit(run(args))
    except AccessError as exc:
        sys.exit(f"omni: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)
