"""`omni chat`: one request through the public Service.

It goes through the API server's proxy, so it needs no port-forward.
"""

from __future__ import annotations

import base64
import io
import time
import wave
from pathlib import Path
from typing import Any

from rich.console import Console

from omni_operator.cli.access import Access, AccessError

_FIRST_REQUEST_SECONDS = 300.0  # the first request on Ray imports vLLM in six queue actors


def chat(access: Access, name: str, *, prompt: str, audio: Path | None) -> int:
    """Sends a chat request, prints the text, writes the audio.

    Raises:
        AccessError: The request failed; vllm-omni 0.16 reports stage errors with HTTP status 200.
    """
    console = Console()
    omni = access.omni(name)
    spec = omni["spec"]
    port = (spec.get("serving") or {}).get("port", 8091)
    model = spec["model"].get("servedName") or spec["model"]["name"]
    path = f"/api/v1/namespaces/{access.namespace}/services/http:{name}:{port}/proxy/v1/chat/completions"
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    begun = time.monotonic()
    with console.status(f"asking {model} (the first request after a start takes longer)"):
        answer: dict[str, Any] = access.request("POST", path, body=body, seconds=_FIRST_REQUEST_SECONDS)
    if answer.get("error"):
        msg = f"the engine answered with an error: {answer['error']}"
        raise AccessError(msg)
    console.print(f"[dim]answered in {time.monotonic() - begun:.1f} s through Service {name}:{port}[/dim]")
    for choice in answer.get("choices") or ():
        message = choice["message"]
        if (sound := message.get("audio")) is not None:
            _save(console, base64.b64decode(sound["data"]), audio)
        else:
            console.print("text: ", end="")
            console.print(repr(message.get("content")), markup=False, highlight=False)
    return 0


def _save(console: Console, data: bytes, path: Path | None) -> None:
    with wave.open(io.BytesIO(data)) as sound:
        seconds = sound.getnframes() / sound.getframerate()
        facts = f"{seconds:.2f} s, {sound.getframerate()} Hz, {sound.getnchannels()} channel(s)"
    if path is None:
        console.print(f"audio: WAV, {facts} (--audio FILE writes it)")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    console.print(f"audio: {path} ({facts})")
