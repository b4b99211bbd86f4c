"""`kubelogin get-token`, in process, for the logins that need no person.

Source: kubelogin's options. Its environment goes before its arguments, unless it is told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

from kpo_multicluster.auth.azure_credentials import CLOUD_NAMES, CLOUDS, AzureCloud, AzureLogin, fetch_token
from kpo_multicluster.auth.exec_plugin import ExecPlugin
from kpo_multicluster.auth.plugin_arguments import Fetcher, Grammar, NotServedError, environment_of, serve

_LOGINS = {
    "spn": "service-principal",
    "msi": "managed-identity",
    "workloadidentity": "workload-identity",
    "azurecli": "azure-cli",
}
# Of two variables for the same the later one wins.
_VARIABLES = {
    "--client-id": ("AAD_SERVICE_PRINCIPAL_CLIENT_ID", "AZURE_CLIENT_ID"),
    "--client-secret": ("AAD_SERVICE_PRINCIPAL_CLIENT_SECRET", "AZURE_CLIENT_SECRET"),
    "--client-certificate": ("AAD_SERVICE_PRINCIPAL_CLIENT_CERTIFICATE", "AZURE_CLIENT_CERTIFICATE_PATH"),
    "--client-certificate-password": (
        "AAD_SERVICE_PRINCIPAL_CLIENT_CERTIFICATE_PASSWORD",
        "AZURE_CLIENT_CERTIFICATE_PASSWORD",
    ),
    "--tenant-id": ("AZURE_TENANT_ID",),
}
_TERRAFORM_VARIABLES = {
    "--client-id": ("ARM_CLIENT_ID",),
    "--client-secret": ("ARM_CLIENT_SECRET",),
    "--client-certificate": ("ARM_CLIENT_CERTIFICATE_PATH",),
    "--client-certificate-password": ("ARM_CLIENT_CERTIFICATE_PASSWORD",),
    "--tenant-id": ("ARM_TENANT_ID",),
}
_WORKLOAD_VARIABLES = {
    "--client-id": ("AZURE_CLIENT_ID",),
    "--federated-token-file": ("AZURE_FEDERATED_TOKEN_FILE",),
    "--authority-host": ("AZURE_AUTHORITY_HOST",),
}
_LOGIN_VARIABLE = "AAD_LOGIN_METHOD"
_GITHUB_VARIABLES = ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL")
_GRAMMAR = Grammar(
    command=("get-token",),
    values=(
        "--login",
        "--client-id",
        "--client-secret",
        "--client-certificate",
        "--client-certificate-password",
        "--identity-resource-id",
        "--server-id",
        "--federated-token-file",
        "--authority-host",
        "--tenant-id",
        "--environment",
        "--token-cache-dir",
        "--cache-dir",
        "--timeout",
        "--redirect-url",
        "--login-hint",
        "--v",
    ),
    switches=("--disable-environment-override", "--disable-instance-discovery", "--use-azurerm-env-vars"),
    short={"-l": "--login", "-t": "--tenant-id", "-e": "--environment", "-v": "--v"},
    environment=(
        *(name for names in (*_VARIABLES.values(), *_TERRAFORM_VARIABLES.values()) for name in names),
        *(name for names in _WORKLOAD_VARIABLES.values() for name in names),
        _LOGIN_VARIABLE,
    ),
)


def kubelogin(plugin: ExecPlugin) -> Fetcher | None:
    """Stands in for `kubelogin get-token`."""

    def make() -> Fetcher:
        given, env = _GRAMMAR.read(plugin), environment_of(plugin)
        flags = given if given.get("--disable-environment-override") == "true" else _overridden(given, env)
        method = flags.get("--login") or "devicecode"
        if method not in _LOGINS or (method == "workloadidentity" and all(env.get(n) for n in _GITHUB_VARIABLES)):
            raise NotServedError(
                f"its login {method!r} needs a person or a service that is not here; "
                f"{_LOGIN_VARIABLE}=workloadidentity, msi, spn or azurecli in the environment, or 'kubelogin "
                "convert-kubeconfig -l' with one of them, says to log in otherwise"
            )
        server_id = flags.get("--server-id")
        if not server_id:
            raise NotServedError("its arguments name no --server-id")
        scope = server_id.rstrip("/")
        scope = scope if scope.endswith("/.default") else f"{scope}/.default"
        login = _login(flags, _LOGINS[method], plugin.source)
        return lambda: fetch_token(login, scope)

    return serve(plugin, make, needs="azure.identity", extra="aks")


def _overridden(flags: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    found = dict(flags)
    terraform = flags.get("--use-azurerm-env-vars") == "true"
    tables = [_TERRAFORM_VARIABLES if terraform else _VARIABLES]
    found["--login"] = env.get(_LOGIN_VARIABLE) or found.get("--login", "")
    if found["--login"] == "workloadidentity":
        tables.append(_WORKLOAD_VARIABLES)
    for table in tables:
        for flag, names in table.items():
            for name in names:
                if name in env:
                    found[flag] = env[name]
    return found


def _login(flags: Mapping[str, str], kind: str, source: str) -> AzureLogin:
    secret, password = flags.get("--client-secret"), flags.get("--client-certificate-password")
    return AzureLogin(
        source=source,
        kind=kind,
        cloud=_cloud(flags),
        tenant_id=flags.get("--tenant-id") or None,
        client_id=flags.get("--client-id") or None,
        secret=None if not secret else lambda: secret,
        certificate_file=flags.get("--client-certificate") or None,
        certificate_password=None if not password else lambda: password,
        federated_token_file=flags.get("--federated-token-file") or None,
        identity_resource_id=None if flags.get("--client-id") else flags.get("--identity-resource-id") or None,
    )


def _cloud(flags: Mapping[str, str]) -> AzureCloud:
    cloud = CLOUDS[CLOUD_NAMES.get((flags.get("--environment") or "AzurePublicCloud").lower(), "public")]
    authority = (flags.get("--authority-host") or cloud.authority).rstrip("/")
    known = authority in {known.authority for known in CLOUDS.values()}
    discovery = known and flags.get("--disable-instance-discovery") != "true"
    return AzureCloud(authority, cloud.arm, discovery)
