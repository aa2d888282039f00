"""Runs the controller: `python -m omni_operator`."""

from __future__ import annotations

import sys

from omni_operator.controller.runtime.app import run
from omni_operator.controller.runtime.settings import Settings
from omni_operator.kube.credentials import NoCredentialsError


def main() -> None:
    """Entry point of the image."""
    try:
        settings = Settings.from_environment()
    except ValueError as exc:
        sys.exit(f"omni-operator: an OMNI_* variable is not valid: {exc}")
    try:
        run(settings)
    except NoCredentialsError as exc:
        sys.exit(f"omni-operator: {exc}")


if __name__ == "__main__":
    main()
