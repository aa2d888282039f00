"""Compares the libraries of this image with those that the plan relies on, then becomes the command after `--`.

The release decides flags, configuration and connectors, and the version of Mooncake which connectors work: with another release the
engine refuses its command line or ignores half of it, and with another Mooncake a payload may arrive torn, without a word. So the image
is asked before anything starts, and the difference is left where the operator reads it: the container's termination message.

What cannot be told is believed: a development build, an image whose engine runs on another Python than this one.

Only the standard library: it runs in the engine's image, whose packages are not ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import signal
import sys
from importlib import metadata
from pathlib import Path
from types import FrameType

TERMINATION_LOG = os.environ.get("OMNI_TERMINATION_LOG", "/dev/termination-log")
CODE = "EngineImageMismatch"
MOONCAKE = re.compile(r"mooncake[-_]transfer[-_]engine.*", re.IGNORECASE)  # -cuda13, -non-cuda, ...
RELEASED = re.compile(
    r"\d+\.\d+(\.\d+)*((a|b|rc)\d+|\.post\d+)*(\+[a-z0-9.]+)?"
)  # no .dev, which does not tell a release


def say(text: str) -> None:
    """A line in the container's log."""
    print(f"omni: {text}", flush=True)


def numbers(version: str, count: int) -> list[int]:
    """The first numbers of a version, to compare."""
    return [int(number) for number in re.findall(r"\d+", version)[:count]]


def plain(version: str) -> str:
    """A version as a spec may say it."""
    found = re.match(r"\d+\.\d+\.\d+(\.post\d+)?", version)
    return found.group() if found else ".".join(str(number) for number in [*numbers(version, 3), 0, 0][:3])


def installed(pattern: re.Pattern[str]) -> set[str]:
    """Versions of the distributions whose name matches; one that cannot be read is left out."""
    found = set()
    for each in metadata.distributions():
        try:
            if pattern.fullmatch(str(each.metadata["Name"])):
                found.add(each.version)
        except Exception as exc:
            say(f"a package of the image cannot be read: {exc}")
    return found


def engine_version() -> str:
    """Version of vllm-omni; empty when this Python does not know it."""
    try:
        return metadata.version("vllm-omni")
    except metadata.PackageNotFoundError:
        return ""


def wrong_release(wanted: str) -> str:
    """What is wrong with the image's vllm-omni; empty when nothing is, or when its version does not tell a release."""
    here = engine_version()
    if not RELEASED.fullmatch(here):
        say(f"the image's vllm-omni is {here or 'not known to python3'}, which tells no release, so it is not compared")
        return ""
    if numbers(here, 2) == numbers(wanted, 2):
        return ""
    line = ".".join(str(number) for number in numbers(wanted, 2))
    return (
        f"the engine image has vllm-omni {here}, but engine.version is {wanted}, by which flags, configuration and connectors were "
        f"chosen; set engine.version to {plain(here)}, or engine.image to one with vllm-omni {line}"
    )


def wrong_mooncake(least: str, below: str) -> str:
    """What is wrong with the image's Mooncake, from `least` on and before `below`, each empty for any."""
    here = installed(MOONCAKE)
    if not here and importlib.util.find_spec("mooncake") is None and importlib.util.find_spec("vllm_omni") is not None:
        return (
            "the engine image has no Mooncake, by which an edge was planned; set engine.image to one that has it, or see with "
            "`omni explain` what else would do"
        )
    if len(here) != 1:  # built from sources, another Python, or two that share a folder
        say(f"the image's Mooncake is {' and '.join(sorted(here)) or 'not known to python3'}, so it is not compared")
        return ""
    (version,) = here
    mine = numbers(version, 3)
    wanted = [f"{least} or later"] if least and mine < numbers(least, 3) else []
    wanted += [f"one before {below}"] if below and mine >= numbers(below, 3) else []
    if not wanted:
        return ""
    return (
        f"the engine image has Mooncake {version}, and the plan relies on {wanted[0]}; set engine.mooncakeVersion to "
        f"{plain(version)}, by which the plan is made anew, or engine.image to one with such a Mooncake"
    )


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; everything after -- is what to become."""
    parser = argparse.ArgumentParser(description="Compares the image's libraries with the plan, then runs a command.")
    parser.add_argument("--vllm-omni", required=True, help="version that the spec says; its line is compared")
    parser.add_argument("--mooncake", action="store_true", help="an edge uses Mooncake")
    parser.add_argument("--mooncake-from", default="", help="the least version of Mooncake")
    parser.add_argument("--mooncake-below", default="", help="the first version of Mooncake that is too new")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- command ...")
    args = parser.parse_args(argv)
    if args.command[:1] == ["--"]:
        args.command = args.command[1:]
    return args


def difference(args: argparse.Namespace) -> str:
    """What is wrong with the image; empty when nothing is, or nothing can be told."""
    try:
        why = wrong_release(args.vllm_omni)
        return why or (wrong_mooncake(args.mooncake_from, args.mooncake_below) if args.mooncake else "")
    except Exception as exc:  # a check that fails must not keep an engine from starting
        say(f"the image was not compared with the plan: {exc!r}")
        return ""


def leave(number: int, _: FrameType | None) -> None:
    """Process 1 of a container ignores a signal that it has no handler for, and nothing runs yet that has to be ended."""
    raise SystemExit(128 + number)


def main(argv: list[str]) -> int:
    """Compares, and becomes the command; 1 when the image is another than planned, or cannot run it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)  # what this becomes has its own again
    args = parse(argv)
    why = difference(args)
    if not why:
        try:
            os.execvp(args.command[0], args.command)
        except OSError as exc:
            why = f"the engine image cannot run `{args.command[0]}` ({exc.strerror}); set engine.image to one with vllm-omni"
    say(why)
    Path(TERMINATION_LOG).write_text(f"{CODE}: {why}", encoding="utf-8")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
