from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.auth.access import TokenSource
from kpo_multicluster.auth.exec_plugin import ExecPlugin
from kpo_multicluster.auth.plugins_azure import kubelogin
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import ExecPluginError

V1BETA1 = "client.authentication.k8s.io/v1beta1"
TENANT, CLIENT, SECRET = "72f988bf-86f1-41af-91ab-2d7cd011db47", "11111111-aaaa", "s3cr3t-value"
SERVER_ID = "6dae42f8-4368-4678-94ff-3960e28e3630"
SERVER = ("get-token", "--server-id", SERVER_ID)

Tokens = Callable[..., TokenSource]


def form_of(azure: Any) -> Any:
    """What the latest login told Entra."""
    return [one.form for one in azure.record.all() if one.path.endswith("/oauth2/v2.0/token")][-1]


@pytest.fixture
def tokens(
    azure: Any, write_kubeconfig: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Tokens:
    """The tokens of a kubeconfig whose user runs kubelogin, on a host without any command."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def make(*arguments: str, **env: str) -> TokenSource:
        variables = [{"name": name, "value": value} for name, value in env.items()] or None
        authority = ("--authority-host", f"{azure.url}/")
        entry = {"apiVersion": V1BETA1, "command": "kubelogin", "args": [*arguments, *authority], "env": variables}
        access = registry.resolve(kubeconfig(str(write_kubeconfig(user={"exec": entry}))))
        assert access.tokens is not None
        return access.tokens

    return make


def test_a_service_principal(tokens: Tokens, azure: Any) -> None:
    login = ("-l", "spn", "--client-id", CLIENT, "--client-secret", SECRET, "-t", TENANT)
    source = tokens(*SERVER, *login)
    token = source.current()
    assert azure.tokens.good(token.value).audience == SERVER_ID
    assert source.replace(token).value != token.value


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("--login", "spn"), {"AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_SECRET": SECRET, "AZURE_TENANT_ID": TENANT}),
        (
            ("--login=devicecode", "--tenant-id", "replaced"),
            {
                "AAD_LOGIN_METHOD": "spn",
                "AAD_SERVICE_PRINCIPAL_CLIENT_ID": CLIENT,
                "AAD_SERVICE_PRINCIPAL_CLIENT_SECRET": SECRET,
                "AZURE_TENANT_ID": TENANT,
            },
        ),
        (
            ("--login", "spn", "--use-azurerm-env-vars"),
            {"ARM_CLIENT_ID": CLIENT, "ARM_CLIENT_SECRET": SECRET, "ARM_TENANT_ID": TENANT, "AZURE_CLIENT_ID": "no"},
        ),
    ],
)
def test_the_environment_goes_first(
    tokens: Tokens, azure: Any, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    assert tokens(*SERVER, *arguments, **env).current().value
    assert form_of(azure)["client_id"] == CLIENT


def test_unless_it_is_told_not_to(tokens: Tokens, azure: Any) -> None:
    arguments = ("--login", "spn", "--client-id", CLIENT, "--client-secret", SECRET, "--tenant-id", TENANT)
    source = tokens(*SERVER, *arguments, "--disable-environment-override", AZURE_CLIENT_ID="other")
    assert source.current().value
    assert form_of(azure)["client_id"] == CLIENT


def test_workload_identity(tokens: Tokens, azure: Any, tmp_path: Path) -> None:
    (tmp_path / "federated").write_text("eyJ.kubernetes.token")
    env = {
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_TENANT_ID": TENANT,
        "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "federated"),
        "AZURE_AUTHORITY_HOST": f"{azure.url}/",
    }
    assert tokens(*SERVER, "-l", "workloadidentity", **env).current().value
    assert form_of(azure)["client_assertion"] == "eyJ.kubernetes.token"


def test_managed_identity(tokens: Tokens, azure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{azure.machine_url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-secret")
    assert tokens(*SERVER, "--login", "msi", "--client-id", "identity-1").current().value
    assert azure.record.all()[-1].query["client_id"] == "identity-1"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((*SERVER, "--login", "devicecode"), "login 'devicecode' needs a person .* AAD_LOGIN_METHOD=workloadidentity"),
        (SERVER, "login 'devicecode' needs a person"),
        ((*SERVER, "--login", "azd"), "login 'azd' needs a person or a service that is not here"),
        (("get-token", "--login", "msi"), "its arguments name no --server-id"),
        ((*SERVER, "--login", "spn", "--legacy"), "its argument --legacy is not understood"),
        (("convert-kubeconfig",), "it is not called as 'kubelogin get-token'"),
    ],
)
def test_what_needs_the_command(tokens: Tokens, arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ExecPluginError, match=f"is not on the PATH of this process, and it cannot .*{reason}"):
        tokens(*arguments).current()


def test_the_command_is_run_for_what_needs_it(
    tokens: Tokens, script: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = f'{{"apiVersion":"{V1BETA1}","kind":"ExecCredential","status":{{"token":"of-kubelogin"}}}}'
    path = script("kubelogin", f"echo '{answer}'")
    monkeypatch.setenv("PATH", str(path.parent))
    assert tokens(*SERVER, "--login", "interactive").current().value == "of-kubelogin"


def test_without_azure_identity(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(ExecPluginError, match=r"not on the PATH.* pip install 'kpo-multicluster\[aks\]'"):
        tokens(*SERVER, "--login", "msi").current()


def test_a_secret_that_is_refused_is_not_told(tokens: Tokens) -> None:
    login = ("-l", "spn", "--client-id", CLIENT, "--client-secret", "wrong-secret", "-t", TENANT)
    with pytest.raises(ExecPluginError, match="AADSTS7000215") as caught:
        tokens(*SERVER, *login).current()
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize("environment", ["AzurePublicCloud", "AzureChinaCloud", "AzureUSGovernmentCloud"])
def test_clouds_are_told_apart_without_a_request(environment: str, tmp_path: Path, azure: Any) -> None:
    arguments = (*SERVER, "-e", environment, "--login", "msi")
    plugin = ExecPlugin("kubelogin", arguments, {}, V1BETA1, "exec of user 'u'", tmp_path)
    assert kubelogin(plugin) is not None
    assert azure.record.paths() == []
