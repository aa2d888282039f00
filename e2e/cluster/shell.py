"""Runs programs, and prints one line per step to stderr with its seconds."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


class CommandError(RuntimeError):
    """A program ended with a non-zero code; the message has its command and last output."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        tail = "\n".join(output.strip().splitlines()[-30:])
        super().__init__(f"`{' '.join(argv)[:300]}` ended with {code}\n{tail}")
        self.argv, self.code, self.output = tuple(argv), code, output


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
) -> str:
    """Run `argv` and return its standard output.

    Args:
        argv: the program and its arguments.
        env: variables on top of this process's own.
        cwd: the working folder.
        stdin: text for its standard input (none by default, so nothing can wait for a keyboard).
        timeout: seconds until it is killed.

    Raises:
        CommandError: it ended with a non-zero code (or was killed after `timeout`: code 124).
    """
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
        )
    except subprocess.TimeoutExpired as late:
        raise CommandError(argv, 124, f"no end after {timeout} s: {late.output!r}") from late
    if done.returncode:
        raise CommandError(argv, done.returncode, done.stdout + done.stderr)
    return done.stdout


def succeeds(argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 30) -> bool:
    """Whether `argv` exists and ends with 0 within `timeout` seconds."""
    try:
        run(argv, env=env, timeout=timeout)
    except (CommandError, FileNotFoundError):
        return False
    return True


def say(text: str) -> None:
    """Write one progress line."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Announce `text`, and its seconds when it is done."""
    say(f"{text} ...")
    start = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"{text}: failed after {time.monotonic() - start:.0f} s")
        raise
    say(f"{text}: {time.monotonic() - start:.0f} s")
