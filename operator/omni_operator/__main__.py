"""Runs the controller: `python -m omni_operator`."""

from __future__ import annotations

import sys

from omni_operator.controller.app import run
from omni_operator.controller.settings import Settings


def main() -> None:
    """Entry point of the image."""
    try:
        settings = Settings.from_environment()
    except ValueError as exc:
        sys.exit(f"omni-operator: an OMNI_* variable is not valid: {exc}")
    run(settings)


if __name__ == "__main__":
    main()
