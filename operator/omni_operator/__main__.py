"""Runs the controller: `python -m omni_operator`."""

from __future__ import annotations

import sys

# kopf imports the client of the kubernetes package where it is installed, to know its classes when
# it sees one. Nothing here hands it any, and without it the process is 20 MB smaller.
sys.modules["kubernetes"] = None  # type: ignore[assignment]

from omni_operator.controller.runtime.app import run  # noqa: E402
from omni_operator.controller.runtime.settings import Settings  # noqa: E402
from omni_operator.kube.credentials import NoCredentialsError  # noqa: E402


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
