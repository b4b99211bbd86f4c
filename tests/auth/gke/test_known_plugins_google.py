from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.auth.access import TokenSource
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import ExecPluginError

V1BETA1 = "client.authentication.k8s.io/v1beta1"
EMAIL = "airflow@my-project.iam.gserviceaccount.com"
COMMAND = "gke-gcloud-auth-plugin"

Tokens = Callable[..., TokenSource]


@pytest.fixture
def tokens(
    google: Any, write_kubeconfig: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Tokens:
    """The tokens of a kubeconfig whose user runs the plugin, on a host without any command."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def make(*arguments: str, **env: str) -> TokenSource:
        variables = [{"name": name, "value": value} for name, value in env.items()] or None
        entry = {
            "apiVersion": V1BETA1,
            "command": COMMAND,
            "args": list(arguments),
            "env": variables,
            "provideClusterInfo": True,
            "installHint": "Install gke-gcloud-auth-plugin for use with kubectl",
        }
        access = registry.resolve(kubeconfig(str(write_kubeconfig(user={"exec": entry}))))
        assert access.tokens is not None
        return access.tokens

    return make


@pytest.mark.parametrize("arguments", [(), ("--use_application_default_credentials",)])
def test_the_token_is_made_in_process(
    tokens: Tokens, google: Any, key_file: Callable[..., str], arguments: tuple[str, ...]
) -> None:
    source = tokens(*arguments, GOOGLE_APPLICATION_CREDENTIALS=key_file())
    token = source.current()
    assert google.identify(token.value).name == EMAIL
    assert source.replace(token).value != token.value


def test_the_credentials_of_this_process(
    tokens: Tokens, google: Any, key_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", key_file())
    assert google.identify(tokens().current().value).name == EMAIL


def test_a_credential_file_of_gclouds(tokens: Tokens, google: Any, key_file: Callable[..., str]) -> None:
    path = key_file(client_email="other@p.iam")
    assert google.identify(tokens(CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE=path).current().value).name == "other@p.iam"


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_impersonation(tokens: Tokens, google: Any, key_file: Callable[..., str], by: str) -> None:
    google.faults.refuse(
        "/v1/projects/-/serviceAccounts/c@p.iam:generateAccessToken$", 403, "PERMISSION_DENIED", "may not"
    )
    env, arguments = {"GOOGLE_APPLICATION_CREDENTIALS": key_file()}, []
    if by == "argument":
        arguments = ["--impersonate_service_account", "c@p.iam"]
    else:
        env["CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT"] = "c@p.iam"
    # There is no way to tell the plugin of another address for the API that impersonates.
    with pytest.raises(ExecPluginError, match=r"served in process, failed\."):
        tokens(*arguments, **env).current()
    assert google.record.paths() == ["/token"]


@pytest.mark.parametrize(
    ("arguments", "env", "reason"),
    [
        (("--account", "jane@example.org"), {}, "its argument --account is not understood"),
        (("--use_edge_cloud",), {}, "its argument --use_edge_cloud is not understood"),
        ((), {"CLOUDSDK_CORE_ACCOUNT": "jane"}, "its environment variable CLOUDSDK_CORE_ACCOUNT is not understood"),
    ],
)
def test_what_it_does_not_understand(
    tokens: Tokens, arguments: tuple[str, ...], env: dict[str, str], reason: str
) -> None:
    with pytest.raises(ExecPluginError, match="is not on the PATH of this process, and it cannot be served") as caught:
        tokens(*arguments, **env).current()
    assert reason in str(caught.value)


def test_where_gcloud_is_installed_it_is_asked(
    tokens: Tokens, google: Any, script: Callable[[str, str], Path], key_file: Callable[..., str], monkeypatch: Any
) -> None:
    answer = f'{{"apiVersion":"{V1BETA1}","kind":"ExecCredential","status":{{"token":"of-gcloud"}}}}'
    path = script(COMMAND, f"echo '{answer}'")
    monkeypatch.setenv("PATH", str(path.parent))
    key = key_file()
    assert google.identify(tokens(GOOGLE_APPLICATION_CREDENTIALS=key).current().value).name == EMAIL
    script("gcloud", "exit 1")
    assert tokens(GOOGLE_APPLICATION_CREDENTIALS=key).current().value == "of-gcloud"
    adc = tokens("--use_application_default_credentials", GOOGLE_APPLICATION_CREDENTIALS=key)
    assert google.identify(adc.current().value).name == EMAIL


def test_without_google_auth(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(ExecPluginError, match=r"not on the PATH.* pip install 'kpo-multicluster\[gke\]'"):
        tokens().current()


def test_no_credentials(tokens: Tokens) -> None:
    with pytest.raises(ExecPluginError, match="There are no Google credentials here"):
        tokens().current()
