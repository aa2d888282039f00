"""One record per vllm-omni release: what it can do, as read in its wheel (and run where that was possible).

A record is data, so a new release is one more record and no new code. Sources name the module of the wheel.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from omni_operator.api.spec import Backend, Connector


class ConfigFormat(StrEnum):
    """Shape of the stage configuration file."""

    STAGE_ARGS = "stage_args"


class UnsupportedReleaseError(ValueError):
    """No record exists for a version; the message lists those that exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A vllm-omni release line.

    Attributes:
        line: Major and minor, such as "0.16".
        backends: Backends that work, in the order that Auto tries them.
        config_format: Format of the stage configuration.
        config_flag: Flag of `vllm serve` that takes the configuration.
        ray_version: Ray version to assume in the image when the spec does not say (the release's own development pin,
            or the newest with which it was run).
        connectors: Connector to its class name in this release.
        async_chunk_key: Whether the configuration has a top-level `async_chunk` (0.16 on).
        shm_threshold_key: Whether SharedMemoryConnector has `shm_threshold_bytes`.
        init_timeout_flag: Whether `--init-timeout` exists.
    """

    line: str
    backends: tuple[Backend, ...]
    config_format: ConfigFormat
    config_flag: str
    ray_version: str
    connectors: dict[Connector, str]
    async_chunk_key: bool
    shm_threshold_key: bool = True
    init_timeout_flag: bool = True


_RECORDS = (
    Release(
        line="0.14",
        backends=(Backend.RAY,),
        config_format=ConfigFormat.STAGE_ARGS,
        config_flag="--stage-configs-path",
        ray_version="2.53.0",
        connectors={Connector.SHARED_MEMORY: "SharedMemoryConnector", Connector.MOONCAKE_STORE: "MooncakeConnector"},
        async_chunk_key=False,
    ),
    Release(
        line="0.16",
        backends=(Backend.RAY,),
        config_format=ConfigFormat.STAGE_ARGS,
        config_flag="--stage-configs-path",
        ray_version="2.53.0",
        connectors={
            Connector.SHARED_MEMORY: "SharedMemoryConnector",
            Connector.MOONCAKE_STORE: "MooncakeStoreConnector",
            Connector.MOONCAKE_TRANSFER_ENGINE: "MooncakeTransferEngineConnector",
        },
        async_chunk_key=True,
    ),
)


def releases() -> tuple[Release, ...]:
    """All records, oldest first."""
    return _RECORDS


def release_for(version: str) -> Release:
    """The record of a version such as 0.16.0.

    Raises:
        UnsupportedReleaseError: There is no record for its line.
    """
    line = ".".join(version.split(".")[:2])
    for record in _RECORDS:
        if record.line == line:
            return record
    known = ", ".join(record.line for record in _RECORDS)
    msg = f"engine.version {version}: this operator knows vllm-omni {known}; use a version of one of these lines"
    raise UnsupportedReleaseError(msg)


def ray_has_token_auth(ray_version: str) -> bool:
    """Whether a Ray version knows RAY_AUTH_MODE=token (2.52.0 on; KubeRay 1.6.2 validates the same bound)."""
    major, minor = (int(part) for part in ray_version.split(".")[:2])
    return (major, minor) >= (2, 52)
