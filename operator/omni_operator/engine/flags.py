"""The command line of `vllm serve --omni` in a release, as templates for children/command.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

Template = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Parts of the command line; `{name}` in a part is filled in.

    Attributes:
        program: The start of every command line; the model's name follows it.
        omni: Turns vllm-omni on.
        listen: Where the server listens: {port}.
        served_name: The model's name for clients: {name}.
        config: The stage configuration file: {path}.
        ray: Runs stages as Ray actors: {address} of the head's GCS. Empty where the release does
            not act on it.
        head: Runs stage 0 in the head, which binds {address}: {port} is that of registration. Empty
            where there is no head.
        headless: Runs one {stage} that registers with the head at {address}: {port}.
        timeouts: Seconds until all stages are ready, {all_stages}, and until one is, {one_stage}.
    """

    program: Template
    omni: Template = ("--omni",)
    listen: Template = ("--host", "0.0.0.0", "--port", "{port}")  # noqa: S104  a pod's port
    served_name: Template = ("--served-model-name", "{name}")
    config: Template
    ray: Template = ()
    head: Template = ()
    headless: Template = ()
    timeouts: Template = ("--init-timeout", "{all_stages}", "--stage-init-timeout", "{one_stage}")

    @property
    def used(self) -> frozenset[str]:
        """Flags that the operator passes to this release."""
        templates = (getattr(self, field.name) for field in fields(self) if field.name != "program")
        return frozenset(part for template in templates for part in template if part.startswith("-"))


def fill(template: Sequence[str], **values: object) -> list[str]:
    """A template with its values."""
    return [part.format_map(values) if part.startswith("{") else part for part in template]


def flag_of(argument: str) -> str:
    """The flag of an argument for vLLM's parser: --worker_backend=ray is --worker-backend."""
    return argument.partition("=")[0].replace("_", "-")
