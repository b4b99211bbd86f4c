"""Tokens of Microsoft Entra: of a service principal, a managed or workload identity, or a login of the Azure CLI.

Each token is made by a credential object of its own: the library's caches would hand a refused token out again, and
neither they nor its connections may cross a fork.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kpo_multicluster.auth.access import Token
from kpo_multicluster.auth.cloud_http import reason_of
from kpo_multicluster.errors import CredentialError, MissingExtraError

FEATURE, EXTRA = "A cluster of AKS", "aks"
_TEXT_LIMIT = 300
# The library's own are 5 minutes each, and 4 tries.
_PIPELINE = {"connection_timeout": 10, "read_timeout": 30, "retry_total": 2, "retry_backoff_factor": 0.3}
_CODE = re.compile(r"AADSTS\d+")
# Of a token service that is overloaded or being updated.
_BUSY_CODE = "AADSTS90033"
_HINTS = {
    "AADSTS7000215": "The client secret is wrong; its value is needed, not its id.",
    "AADSTS7000222": "The client secret has expired: make a new one for the application.",
    "AADSTS700016": "The tenant does not know the application: correct client_id or tenant_id.",
    "AADSTS90002": "There is no such tenant in this cloud: correct tenant_id or cloud.",
    "AADSTS900023": "The tenant_id is neither an id nor a domain: correct it.",
    "AADSTS700027": "The certificate is not registered with the application: upload its public part there.",
    "AADSTS70021": "No federated credential of the application matches this service account: add one.",
    "AADSTS700213": "No federated credential of the application matches this service account: add one.",
    "AADSTS700211": "No federated credential of the application has this cluster's issuer: add one.",
    "AADSTS700024": "The clock of this host is off: set it, by NTP.",
    "AADSTS500011": "The tenant does not know the server's application: correct server_id, or the tenant.",
}


@dataclass(frozen=True)
class AzureCloud:
    """One of Azure's clouds.

    Attributes:
        authority: base URL of its login service.
        arm: base URL of Azure Resource Manager.
        discovery: whether its login service may be looked up among Microsoft's.
    """

    authority: str
    arm: str
    discovery: bool = True


CLOUDS = {
    "public": AzureCloud("https://login.microsoftonline.com", "https://management.azure.com"),
    "china": AzureCloud("https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn"),
    "usgov": AzureCloud("https://login.microsoftonline.us", "https://management.usgovcloudapi.net"),
}
CLOUD_NAMES = {
    "azurecloud": "public",
    "azurepubliccloud": "public",
    "azurepublic": "public",
    "azurechinacloud": "china",
    "azureusgovernment": "usgov",
    "azureusgovernmentcloud": "usgov",
}
"""What other tools call the clouds, in lower case."""


@dataclass(frozen=True)
class AzureLogin:
    """Whose Entra tokens to get.

    Attributes:
        source: where the credentials come from, for messages.
        kind: `service-principal`, `managed-identity`, `workload-identity`, `azure-cli` or `default`.
        cloud: whose login service to use.
        tenant_id: of Entra.
        client_id: of the application or managed identity.
        secret: gives the application's secret.
        certificate_file: path of the application's certificate and key.
        certificate_password: gives the password of that file.
        federated_token_file: path of the token of a workload identity.
        identity_resource_id: resource id of a managed identity, in place of its client id.
    """

    source: str
    kind: str = "default"
    cloud: AzureCloud = CLOUDS["public"]
    tenant_id: str | None = None
    client_id: str | None = None
    secret: Callable[[], str] | None = field(default=None, repr=False)
    certificate_file: str | None = None
    certificate_password: Callable[[], str] | None = field(default=None, repr=False)
    federated_token_file: str | None = None
    identity_resource_id: str | None = None


def fetch_token(login: AzureLogin, scope: str) -> Token:
    """A new token; may block, and runs `az` for a login of the Azure CLI.

    Args:
        login: whose.
        scope: what it is for, ending in `/.default`.

    Raises:
        MissingExtraError: azure-identity is not installed.
        CredentialError: Entra gave none, or could not be reached.
    """
    try:
        import azure.identity
        from azure.core.exceptions import AzureError
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("azure", "msal"):
            raise
        raise MissingExtraError(FEATURE, EXTRA) from None
    final = True
    try:
        with _credential(azure.identity, login) as credential:
            made = credential.get_token(scope)
    except AzureError as error:
        fault = _refused(error, login)
        # Without a code of Entra's no one has judged: the identity's own endpoint may be away.
        code = _CODE.search(_first_sentence(error))
        final = code is not None and code[0] != _BUSY_CODE
    except (ValueError, OSError) as error:  # of fields that are missing, or a certificate that is none
        cause = str(error) if isinstance(error, OSError) else _first_sentence(error)
        fault = f"The Azure credentials from {login.source} cannot be used ({cause}): correct them there."
    else:
        return Token(made.token, float(made.expires_on))
    raise CredentialError(fault, final=final)


def claims_of(token: str) -> Mapping[str, Any]:
    """What an Entra token says of itself, unverified; empty when it cannot be read."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, Mapping) else {}


def _credential(identity: Any, login: AzureLogin) -> Any:
    common: dict[str, Any] = {"authority": login.cloud.authority, **_PIPELINE}
    if not login.cloud.discovery:
        common["disable_instance_discovery"] = True
    if login.kind == "service-principal":
        if login.certificate_file is not None:
            password = login.certificate_password() if login.certificate_password is not None else None
            return identity.CertificateCredential(
                login.tenant_id,
                login.client_id,
                login.certificate_file,
                password=password,
                send_certificate_chain=True,
                **common,
            )
        secret = login.secret() if login.secret is not None else None
        return identity.ClientSecretCredential(login.tenant_id, login.client_id, secret, **common)
    if login.kind == "managed-identity":
        if login.identity_resource_id is not None:
            return identity.ManagedIdentityCredential(
                identity_config={"resource_id": login.identity_resource_id}, **_PIPELINE
            )
        return identity.ManagedIdentityCredential(client_id=login.client_id, **_PIPELINE)
    if login.kind == "workload-identity":
        return identity.WorkloadIdentityCredential(
            tenant_id=login.tenant_id,
            client_id=login.client_id,
            token_file_path=login.federated_token_file,
            **common,
        )
    if login.kind == "azure-cli":
        return identity.AzureCliCredential(**({"tenant_id": login.tenant_id} if login.tenant_id else {}))
    return identity.DefaultAzureCredential(
        managed_identity_client_id=login.client_id,
        workload_identity_client_id=login.client_id,
        workload_identity_tenant_id=login.tenant_id,
        # What only a developer's machine has, and is slow to find absent.
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
        exclude_powershell_credential=True,
        exclude_developer_cli_credential=True,
        **common,
    )


def _refused(error: Exception, login: AzureLogin) -> str:
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    whose = f"Azure credentials from {login.source}"
    # The library says "authentication failed" of a request that never arrived.
    lost = next(
        (e for e in (error, error.__cause__) if isinstance(e, ServiceRequestError | ServiceResponseError)), None
    )
    if lost is not None:
        return (
            f"A token for the {whose} could not be fetched: {login.cloud.authority} could not be reached "
            f"({reason_of(lost)}). Check that this host reaches it: DNS, firewall, and proxy settings."
        )
    said = _first_sentence(error)
    code = _CODE.search(said)
    if code is not None:
        hint = _HINTS.get(code[0], "Look the code up in the documentation of Microsoft Entra.")
        return f"Microsoft Entra refused the {whose} ({said}). {hint}"
    return (
        f"There are no usable {whose} ({said}). Give some: an Airflow connection as conn_id, a service principal, or "
        "an identity for this process (login='workload-identity' or 'managed-identity')."
    )


def _first_sentence(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error)
    return " ".join(text.partition("Trace ID")[0].partition("\nTo mitigate")[0].split())[:_TEXT_LIMIT].rstrip(" .")
