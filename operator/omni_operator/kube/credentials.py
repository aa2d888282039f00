"""The address of the API server and the credentials for it.

They are the pod's service account, or a kubeconfig outside a cluster.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS = 60.0  # bound tokens are renewed in the file; reading it once a minute is enough


class NoCredentialsError(RuntimeError):
    """Neither a service account nor a usable kubeconfig was found."""


@dataclass(slots=True)
class Credentials:
    """Address, TLS context and bearer token."""

    server: str
    ssl: ssl.SSLContext | bool
    token: str | None = None
    token_file: Path | None = None
    _read_at: float = -_TOKEN_SECONDS

    async def headers(self) -> dict[str, str]:
        """Headers that authenticate a request."""
        if self.token_file is not None and time.monotonic() - self._read_at > _TOKEN_SECONDS:
            self.token = (await asyncio.to_thread(self.token_file.read_text)).strip()
            self._read_at = time.monotonic()
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def find() -> Credentials:
    """Credentials of the pod, or else of the current context of $KUBECONFIG or ~/.kube/config.

    Raises:
        NoCredentialsError: There are none.
    """
    if (_ACCOUNT / "token").exists():
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        host = f"[{host}]" if ":" in host else host
        context = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
        return Credentials(server=f"https://{host}:{port}", ssl=context, token_file=_ACCOUNT / "token")
    path = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube/config")
    if not path.exists():
        msg = f"no service account in this pod and no kubeconfig at {path}"
        raise NoCredentialsError(msg)
    return from_kubeconfig(path)


def from_kubeconfig(path: Path) -> Credentials:
    """Credentials of a kubeconfig's current context; static tokens and client certificates only.

    Raises:
        NoCredentialsError: The context is incomplete or uses something else (the controller needs
            nothing else in a cluster).
    """
    config = yaml.safe_load(path.read_text()) or {}
    context = _named(config, "context", config.get("current-context"))
    cluster = _named(config, "cluster", context.get("cluster"))
    user = _named(config, "user", context.get("user"))
    server = str(cluster["server"]).rstrip("/")
    if not server.startswith("https:"):
        return Credentials(server=server, ssl=False)
    if cluster.get("insecure-skip-tls-verify"):
        tls = ssl._create_unverified_context()  # noqa: S323  the kubeconfig says so
    else:
        tls = ssl.create_default_context(cadata=_text(cluster, "certificate-authority"))
    certificate, key = _text(user, "client-certificate"), _text(user, "client-key")
    if certificate and key:
        with tempfile.NamedTemporaryFile("w") as pem:  # ssl reads client certificates from files only
            pem.write(certificate + "\n" + key)
            pem.flush()
            tls.load_cert_chain(pem.name)
    elif not user.get("token"):
        msg = f"user {context['user']} of {path} has neither a token nor a client certificate"
        raise NoCredentialsError(msg)
    return Credentials(server=server, ssl=tls, token=user.get("token"))


def _named(config: dict[str, Any], what: str, name: str | None) -> dict[str, Any]:
    for entry in config.get(f"{what}s") or ():
        if entry["name"] == name:
            found: dict[str, Any] = entry[what]
            return found
    msg = f"the kubeconfig has no {what} {name!r}"
    raise NoCredentialsError(msg)


def _text(holder: dict[str, Any], key: str) -> str | None:
    if data := holder.get(f"{key}-data"):
        return base64.b64decode(data).decode()
    return Path(holder[key]).read_text() if holder.get(key) else None
