"""Where the API server is found and how requests prove who we are."""

from __future__ import annotations

import base64
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from omni_operator.kube import credentials
from omni_operator.kube.credentials import Credentials, NoCredentialsError


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=test", "-days", "1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", *kind, "-keyout", key, "-out", cert, *subject],
        check=True,
        capture_output=True,
    )
    return cert, key


def kubeconfig(tmp_path: Path, *, cluster: dict[str, Any], user: dict[str, Any], current: str = "ctx") -> Path:
    path = tmp_path / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": current,
                "contexts": [
                    {"name": "other", "context": {}},
                    {"name": "ctx", "context": {"cluster": "c", "user": "u"}},
                ],
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


async def test_a_token_and_a_certificate_authority(tmp_path: Path, pem: tuple[Path, Path]) -> None:
    data = base64.b64encode(pem[0].read_bytes()).decode()
    cluster = {"server": "https://api:6443/", "certificate-authority-data": data}
    found = credentials.from_kubeconfig(kubeconfig(tmp_path, cluster=cluster, user={"token": "t"}))
    assert found.server == "https://api:6443"
    assert isinstance(found.ssl, ssl.SSLContext)
    assert found.ssl.verify_mode is ssl.CERT_REQUIRED
    assert [subject["subject"] for subject in found.ssl.get_ca_certs()] == [((("commonName", "test"),),)]
    assert await found.headers() == {"Authorization": "Bearer t"}


async def test_a_client_certificate_from_files_or_from_data(tmp_path: Path, pem: tuple[Path, Path]) -> None:
    cert, key = pem
    cluster = {"server": "https://api", "certificate-authority": str(cert)}
    data = [base64.b64encode(path.read_bytes()).decode() for path in pem]
    users = (
        {"client-certificate": str(cert), "client-key": str(key)},
        {"client-certificate-data": data[0], "client-key-data": data[1]},
    )
    for user in users:
        found = credentials.from_kubeconfig(kubeconfig(tmp_path, cluster=cluster, user=user))
        assert await found.headers() == {}
    with pytest.raises(ssl.SSLError):  # the key is really loaded
        credentials.from_kubeconfig(
            kubeconfig(tmp_path, cluster=cluster, user={"client-certificate": str(cert), "client-key": str(cert)})
        )


def test_verification_is_off_only_when_the_kubeconfig_says_so(tmp_path: Path) -> None:
    cluster = {"server": "https://api", "insecure-skip-tls-verify": True}
    found = credentials.from_kubeconfig(kubeconfig(tmp_path, cluster=cluster, user={"token": "t"}))
    assert isinstance(found.ssl, ssl.SSLContext)
    assert found.ssl.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("user", "current", "words"),
    [
        ({"exec": {"command": "aws"}}, "ctx", "neither a token nor a client certificate"),
        ({}, "ctx", "neither a token nor a client certificate"),
        ({"token": "t"}, "absent", "no context 'absent'"),
        ({"token": "t"}, "other", "no cluster None"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, user: dict[str, Any], current: str, words: str) -> None:
    path = kubeconfig(tmp_path, cluster={"server": "https://api"}, user=user, current=current)
    with pytest.raises(NoCredentialsError, match=words):
        credentials.from_kubeconfig(path)


@pytest.mark.parametrize("text", ["", "{}", "contexts: []\n"])
def test_an_empty_kubeconfig_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(NoCredentialsError, match="no context None"):
        credentials.from_kubeconfig(path)


def test_nothing_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(NoCredentialsError, match="no service account in this pod and no kubeconfig at"):
        credentials.find()


@pytest.mark.parametrize(
    ("host", "server"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
async def test_a_pod_uses_its_service_account(
    tmp_path: Path, pem: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, host: str, server: str
) -> None:
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_bytes(pem[0].read_bytes())
    monkeypatch.setattr(credentials, "_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "must-not-be-read"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = credentials.find()
    assert found.server == server
    assert await found.headers() == {"Authorization": "Bearer first"}


async def test_a_bound_token_is_read_again_after_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("omni_operator.kube.credentials.time.monotonic", lambda: clock[0])
    path = tmp_path / "token"
    path.write_text("first")
    found = Credentials(server="", ssl=False, token_file=path)
    assert await found.headers() == {"Authorization": "Bearer first"}
    path.write_text("second")
    clock[0] += 59
    assert await found.headers() == {"Authorization": "Bearer first"}
    clock[0] += 2
    assert await found.headers() == {"Authorization": "Bearer second"}
