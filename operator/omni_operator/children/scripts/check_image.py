"""Compares the libraries of this image with those that the plan relies on, then becomes the command after `--`.

The release decides flags, configuration and connectors, and the version of Mooncake which connectors work: with another release the
engine refuses its command line or ignores half of it, and with another Mooncake a payload may arrive torn, without a word. So the image
is asked before anything starts, and the difference is left where the operator reads it: the container's termination message.

Only the standard library: it runs in the engine's image, whose packages are not ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from importlib import metadata
from pathlib import Path

TERMINATION_LOG = os.environ.get("OMNI_TERMINATION_LOG", "/dev/termination-log")
CODE = "EngineImageMismatch"
MOONCAKE = re.compile(r"mooncake[-_]transfer[-_]engine.*", re.IGNORECASE)  # -cuda13, -non-cuda, ...


def numbers(version: str, count: int) -> list[int]:
    """The first numbers of a version, to compare."""
    return [int(number) for number in re.findall(r"\d+", version)[:count]]


def installed(pattern: re.Pattern[str]) -> str:
    """Version of the distribution whose name matches; empty when there is none."""
    for found in metadata.distributions():
        if pattern.fullmatch(found.metadata["Name"] or ""):
            return found.version
    return ""


def wrong_release(wanted: str) -> str:
    """What is wrong with the image's vllm-omni; empty when nothing is, or when it does not say its version (a build from sources)."""
    here = installed(re.compile("vllm[-_]omni", re.IGNORECASE))
    if not here:
        print("omni: the image does not say which vllm-omni it has, so its version is not compared", flush=True)
        return ""
    if numbers(here, 2) == numbers(wanted, 2):
        return ""
    line = ".".join(str(number) for number in numbers(wanted, 2))
    mine = ".".join(str(number) for number in numbers(here, 3))
    return (
        f"the engine image has vllm-omni {here}, but engine.version is {wanted}, by which flags, configuration and connectors were "
        f"chosen; set engine.version to {mine}, or engine.image to one with vllm-omni {line}"
    )


def wrong_mooncake(least: str, below: str) -> str:
    """What is wrong with the image's Mooncake, from `least` on and before `below`, each empty for any."""
    here = installed(MOONCAKE)
    if not here:
        if importlib.util.find_spec("mooncake") is None:
            return "the engine image has no Mooncake, by which an edge was planned; set engine.image to one that has it"
        print("omni: the image does not say which Mooncake it has, so its version is not compared", flush=True)
        return ""
    mine = numbers(here, 3)
    wanted = [f"{least} or later"] if least and mine < numbers(least, 3) else []
    wanted += [f"one before {below}"] if below and mine >= numbers(below, 3) else []
    if not wanted:
        return ""
    return (
        f"the engine image has Mooncake {here}, and the connectors of the plan need {wanted[0]}; set engine.mooncakeVersion to "
        f"{here}, so that others are chosen, or engine.image to one with such a Mooncake"
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


def main(argv: list[str]) -> int:
    """Compares, and becomes the command; 1 when the image is another than planned, or cannot run it."""
    args = parse(argv)
    why = wrong_release(args.vllm_omni)
    if not why and args.mooncake:
        why = wrong_mooncake(args.mooncake_from, args.mooncake_below)
    if not why:
        try:
            os.execvp(args.command[0], args.command)
        except OSError as exc:
            why = f"the engine image cannot run `{args.command[0]}` ({exc.strerror}); set engine.image to one with vllm-omni"
    print(f"omni: {why}", flush=True)
    Path(TERMINATION_LOG).write_text(f"{CODE}: {why}", encoding="utf-8")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
