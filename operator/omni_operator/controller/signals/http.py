"""HTTP to the servers' pods, bounded in time by the caller's session and in size here."""

from __future__ import annotations

import aiohttp


def url(address: str, port: int, path: str) -> str:
    """The URL of a path on a pod."""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}{path}"


async def beginning(answer: aiohttp.ClientResponse, *, limit: int) -> str:
    """The first `limit` bytes of the body, read to its end.

    Raises:
        aiohttp.ClientError: The connection broke.
    """
    found = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
        found += chunk[: limit - len(found)]
    return found.decode(errors="replace")


async def text(answer: aiohttp.ClientResponse, *, limit: int) -> str:
    """The body.

    Raises:
        ValueError: It has more than `limit` bytes.
        aiohttp.ClientError: The connection broke.
    """
    found = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
        found += chunk
        if len(found) > limit:
            msg = f"more than {limit} bytes"
            raise ValueError(msg)
    return found.decode(errors="replace")
