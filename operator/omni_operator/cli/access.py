"""The API server, reached with the kubeconfig of the user.

It uses the official client, so exec plugins and OIDC work.
"""

from __future__ import annotations

import json
from typing import Any

from omni_operator.api.base import GROUP, PLURAL, VERSION


class AccessError(RuntimeError):
    """The cluster cannot be reached, or denies the request.

    Attributes:
        status: HTTP status of the response; 0 without a response.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Access:
    """One context of a kubeconfig."""

    def __init__(self, *, context: str | None, namespace: str | None) -> None:
        from kubernetes import client, config
        from kubernetes.config.config_exception import ConfigException

        try:
            config.load_kube_config(context=context, persist_config=False)  # type: ignore[no-untyped-call]
            listed: Any = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
        except ConfigException as exc:
            msg = (
                f"no usable kubeconfig: {exc}; set KUBECONFIG or use --context "
                "(plan, explain and inventory can do with --nodes FILE)"
            )
            raise AccessError(msg) from exc
        contexts, active = listed
        chosen = next((c for c in contexts if c["name"] == context), active)
        self.namespace = namespace or chosen["context"].get("namespace") or "default"
        self._client = client.ApiClient()

    def request(
        self, method: str, path: str, *, body: Any = None, seconds: float = 30, content: str | None = None
    ) -> Any:
        """The parsed answer of one request.

        Raises:
            AccessError: The server denied the request or cannot be reached.
        """
        import urllib3

        headers = {"Accept": "application/json", "Content-Type": content or "application/json"}
        parameters = self._client.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            answer = self._client.call_api(*parameters, _request_timeout=seconds)
            text: bytes = answer.read()  # type: ignore[no-untyped-call]
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            msg = f"{method} {path}: {exc}"
            raise AccessError(msg) from exc
        parsed: Any = json.loads(text) if text[:1] in {b"{", b"["} else text
        if answer.status >= 400:
            message = (
                parsed.get("message") or parsed.get("error")
                if isinstance(parsed, dict)
                else text.decode(errors="replace")
            )
            raise AccessError(f"{method} {path}: {answer.status} {message}", status=answer.status)
        return parsed

    def omni(self, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        """An OmniDeployment of a namespace, by default the namespace of the context.

        Raises:
            AccessError: It does not exist, or the request failed.
        """
        where = namespace or self.namespace
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{where}/{PLURAL}/{name}"
        try:
            found: dict[str, Any] = self.request("GET", path)
        except AccessError as exc:
            if exc.status == 404:
                msg = f"there is no OmniDeployment {name} in namespace {where}; `kubectl get omni -A` lists them"
                raise AccessError(msg, status=404) from exc
            raise
        return found

    def list(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The items of a collection."""
        from urllib.parse import urlencode

        full = f"{path}?{urlencode(query)}" if query else path
        items: list[dict[str, Any]] = self.request("GET", full)["items"]
        return items
