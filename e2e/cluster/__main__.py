"""Command line: `python -m e2e.cluster <command>`, from the repository's root."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import base_image, binaries, cache, images, kind, kuberay, modules, node_image, nodes, provider, shell


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(words)
    try:
        code = args.run(args)
    except (shell.CommandError, LookupError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return int(code or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, what: str, run: object) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=what, description=what)
        found.set_defaults(run=run)
        return found

    command("up", "make or reuse the cluster, with KubeRay in it", _up)
    command("down", "remove the cluster", lambda _: kind.down())
    load = command("load", "bring an image of the engine into nodes that do not hold it", _load)
    load.add_argument("image")
    load.add_argument("--nodes", default="", help="names, comma-separated (worker2 will do); all workers by default")
    command("images", "list the images that each node holds", _images)
    build = command("binaries", "build programs and print their paths", _binaries)
    build.add_argument("name", nargs="*", help="kubectl, etcd, ray-operator ...; all by default")
    command("status", "say what runs and what it costs on the disk", _status)
    command("kubeconfig", "print the path of the kubeconfig", lambda _: print(kind.kubeconfig()))
    command("base-image", "build the base image and print its name", lambda _: print(images.base_python()))
    command("env", "print shell lines that set what podman, kubectl and helm need", _env)
    run = command("exec", "run a command inside a node: exec NODE -- command ...", _exec)
    run.add_argument("node")
    run.add_argument("command", nargs=argparse.REMAINDER)
    command("prune", "remove builds and images of older keys, and Go's build cache", _prune)
    return parser


def _up(_: argparse.Namespace) -> None:
    with shell.step(f"cluster {kind.name()} up"):
        kind.up()
    print(kind.kubeconfig())


def _load(args: argparse.Namespace) -> None:
    sent = images.load(args.image, [node for node in args.nodes.split(",") if node])
    print("\n".join(sent) if sent else "every node already holds it")


def _images(_: argparse.Namespace) -> None:
    held: dict[tuple[str, int], list[str]] = {}
    for node in nodes.everyone():
        for row in images.listing(node):
            held.setdefault(row, []).append(node.removeprefix(f"{kind.name()}-"))
    for (image, size), where in sorted(held.items()):
        print(f"{size / 1e6:8.0f} MB  {image}  {', '.join(where)}")


def _binaries(args: argparse.Namespace) -> None:
    for path in binaries.ensure_all(args.name).values():
        print(path)


def _exec(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    terminal = ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    argv = [provider.name(), "exec", "-i", *terminal, nodes.full_name(args.node), *command]
    return subprocess.run(argv, env={**os.environ, **provider.environment()}, check=False).returncode


def _env(_: argparse.Namespace) -> None:
    folders = [str(binaries.ensure(name).parent) for name in ("kubectl", "helm", "kind")]
    for name, value in {**provider.environment(), "KUBECONFIG": str(kind.kubeconfig())}.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={":".join(map(shlex.quote, folders))}:"$PATH"')


def _status(_: argparse.Namespace) -> None:
    print(f"cluster    {kind.name()} ({provider.name()})")
    states = nodes.states()
    for node in nodes.everyone():
        print(f"node       {node}: {states.get(node, 'absent')}")
    answering = nodes.answers()
    print(f"api        {'answers' if answering else 'does not answer'}")
    print(f"kubeconfig {kind.kubeconfig()}")
    if answering:
        form = "custom-columns=:metadata.name,:status.conditions[-1].type,:status.nodeInfo.kubeletVersion"
        for row in nodes.kubectl("get", "nodes", "--no-headers", "-o", form).splitlines():
            print(f"kubernetes {row}")
        ready = "jsonpath={.status.availableReplicas} of {.status.replicas} available"
        where = ["-n", kuberay.NAMESPACE, "get", "deployment", "kuberay-operator", "--ignore-not-found"]
        print(f"kuberay    {nodes.kubectl(*where, '-o', ready) or 'absent'}")
    for image in (base_image.tag(), node_image.tag(), kuberay.image()):
        print(f"image      {image}: {'built' if provider.image_id(image) else 'not built'}")
    _disk()


def _disk() -> None:
    for path in sorted(cache.root().iterdir()):
        if path.is_dir():
            print(f"disk       {_size(path):>7}  {path}")
    if provider.name() == "podman":
        store = Path(provider.run("info", "--format", "{{.Store.GraphRoot}}").strip())
        print(f"disk       {_size(store):>7}  {store} (images, and the nodes' /var in volumes)")
    print(f"disk       {shutil.disk_usage(cache.root()).free / 1e9:6.1f}G  free")


def _size(path: Path) -> str:
    # -x: what running containers have mounted below is the same data once more
    return f"{int(shell.run(['du', '-sxk', str(path)]).split()[0]) / 1e6:.1f}G"


def _prune(_: argparse.Namespace) -> None:
    removed = [str(path) for found in modules.MODULES for path in cache.prune(cache.folder("bin"), found.name)]
    for repository in (base_image.REPOSITORY, node_image.REPOSITORY, kuberay.image().rsplit(":", 1)[0]):
        removed += provider.forget_older(repository)
    removed += map(str, cache.prune_scratch())
    binaries.drop_build_cache()
    print("\n".join(removed) if removed else "nothing to remove")


if __name__ == "__main__":
    sys.exit(main())
