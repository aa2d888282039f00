"""Compares the image's libraries with the plan's, then becomes the command after `--`.

The release decides flags, configuration and connectors, and the version of Mooncake which
connectors work: with another release the engine refuses its command line or ignores half of it, and
with another Mooncake a payload may arrive damaged without an error. So the image is compared before
anything starts, and a difference is reported in the container's termination message (message.py).

What cannot be compared is taken for right: a development build, an image whose engine runs on
another Python than this one.

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
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # which Python leaves out with -I, -P and PYTHONSAFEPATH
import message

MOONCAKE = re.compile(r"mooncake[-_]transfer[-_]engine.*", re.IGNORECASE)  # -cuda13, -non-cuda, ...
RELEASED = re.compile(
    r"\d+\.\d+(\.\d+)*((a|b|rc)\d+|\.post\d+)*(\+[a-z0-9.]+)?"
)  # a version with .dev belongs to no release


def say(text: str) -> None:
    """A line in the container's log."""
    print(f"omni: {text}", flush=True)


def numbers(version: str, count: int) -> list[int]:
    """The first numbers of a version, to compare."""
    return [int(number) for number in re.findall(r"\d+", version)[:count]]


class MismatchError(Exception):
    """The image differs from the plan; a code and its fields say how (message.py)."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code)
        self.code, self.fields = code, fields


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


def check_release(wanted: str) -> None:
    """Raises MismatchError when the image's vllm-omni is of another release series.

    A version that names no release is not compared.
    """
    here = engine_version()
    if not RELEASED.fullmatch(here):
        say(f"the image's vllm-omni is {here or 'not known to python3'}, which is no release, so it is not compared")
    elif numbers(here, 2) != numbers(wanted, 2):
        raise MismatchError("EngineReleaseMismatch", found=here, expected=wanted)


def check_mooncake(least: str, below: str) -> None:
    """Raises MismatchError when the image's Mooncake is before `least`, or is `below` or later.

    An empty bound allows any version.
    """
    here = installed(MOONCAKE)
    if not here and importlib.util.find_spec("mooncake") is None and importlib.util.find_spec("vllm_omni") is not None:
        raise MismatchError("MooncakeMissing")
    if len(here) != 1:  # built from sources, another Python, or two that share a folder
        say(f"the image's Mooncake is {' and '.join(sorted(here)) or 'not known to python3'}, so it is not compared")
        return
    (version,) = here
    mine = numbers(version, 3)
    if least and mine < numbers(least, 3):
        raise MismatchError("MooncakeVersionMismatch", found=version, least=least, below="")
    if below and mine >= numbers(below, 3):
        raise MismatchError("MooncakeVersionMismatch", found=version, least="", below=below)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; everything after -- is what to become."""
    parser = argparse.ArgumentParser(description="Compares the image's libraries with the plan, then runs a command.")
    parser.add_argument("--vllm-omni", required=True, help="version that the spec says; its release series is compared")
    parser.add_argument("--mooncake", action="store_true", help="an edge uses Mooncake")
    parser.add_argument("--mooncake-from", default="", help="the least version of Mooncake")
    parser.add_argument("--mooncake-below", default="", help="the first version of Mooncake that is too new")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- command ...")
    args = parser.parse_args(argv)
    if args.command[:1] == ["--"]:
        args.command = args.command[1:]
    return args


def check(args: argparse.Namespace) -> None:
    """Raises MismatchError when the image differs from the plan.

    A check that fails must not keep an engine from starting.
    """
    try:
        check_release(args.vllm_omni)
        if args.mooncake:
            check_mooncake(args.mooncake_from, args.mooncake_below)
    except MismatchError:
        raise
    except Exception as exc:
        say(f"the image was not compared with the plan: {exc!r}")


def leave(number: int, _: FrameType | None) -> None:
    """Exits on a signal.

    Process 1 of a container ignores a signal without a handler, and nothing runs yet that has to
    end first.
    """
    raise SystemExit(128 + number)


def main(argv: list[str]) -> int:
    """Compares, and becomes the command.

    Returns 1 when the image differs from the plan or cannot run the command.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)  # what this becomes has its own again
    args = parse(argv)
    try:
        check(args)
        os.execvp(args.command[0], args.command)
    except MismatchError as exc:
        message.report(exc.code, **exc.fields)
    except OSError as exc:
        message.report("CannotStart", process="", command=args.command[0], detail=exc.strerror or str(exc))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
