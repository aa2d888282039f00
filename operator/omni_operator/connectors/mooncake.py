"""What the two Mooncake connectors share.

Bounds of the library's version, the image check, the fallback that is not reported, and the master.
"""

from __future__ import annotations

from collections.abc import Sequence

from omni_operator.connectors.base import ImageFacts

# mooncake 0.3.13 removed ReplicateConfig.with_soft_pin, which the store connector of every release
# calls (verified with 0.3.13).
MOONCAKE_STORE_BELOW = (0, 3, 13)
# Before, a write over TCP is reported as done when the sender's kernel has it, and its reader may
# find what was there before (kvcache-ai/Mooncake#2086, mended by #2850; measured: 30 of 100 writes
# of 8 MiB were torn with 0.3.11.post1, none with 0.3.12.post1).
MOONCAKE_ACKNOWLEDGES_FROM = (0, 3, 12)

FALLBACK_NOTE = "; Mooncake falls back to TCP without an error when it finds no device"
MASTER_MEMORY_BYTES = 512 << 20  # keys and leases; payloads are in the clients' segments


def mooncake_has_store(version: str) -> bool:
    """Whether MooncakeStoreConnector can be built with a Mooncake version."""
    return _three(version) < MOONCAKE_STORE_BELOW


def mooncake_acknowledges(version: str) -> bool:
    """Whether a payload that a Mooncake version has sent over TCP has arrived."""
    return _three(version) >= MOONCAKE_ACKNOWLEDGES_FROM


def image_check(image: ImageFacts) -> tuple[str, ...]:
    """The image must have Mooncake, and one that acknowledges where the plan counts on that.

    Over RDMA too, which may fall back to TCP. With an earlier version the plan has warned.
    """
    if not mooncake_acknowledges(image.mooncake):
        return ("--mooncake",)
    return "--mooncake", f"--mooncake-from={dotted(MOONCAKE_ACKNOWLEDGES_FROM)}"


def torn_note(image: ImageFacts) -> str:
    """A fallback to TCP may tear payloads."""
    if mooncake_acknowledges(image.mooncake):
        return ""
    return ", and a Mooncake before 0.3.12 may tear payloads over TCP (TcpWritesUnacknowledged)"


def master_command(*, rpc_port: int, http_port: int, metrics_port: int) -> list[str]:
    """The program that allocates the store and answers its metadata."""
    return [
        "mooncake_master",
        f"--rpc_port={rpc_port}",
        "--enable_http_metadata_server=true",
        "--http_metadata_server_host=0.0.0.0",
        f"--http_metadata_server_port={http_port}",
        f"--metrics_port={metrics_port}",
    ]


def dotted(version: Sequence[int]) -> str:
    """A version as text."""
    return ".".join(str(number) for number in version)


def _three(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])
