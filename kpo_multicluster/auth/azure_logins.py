"""The ways to name Azure credentials: the options of a ref, and an Airflow connection of type `azure`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kpo_multicluster.auth import options
from kpo_multicluster.auth.azure_credentials import CLOUD_NAMES, CLOUDS, AzureCloud, AzureLogin
from kpo_multicluster.auth.connections import CloudConnection
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, CredentialError

_UNSUPPORTED_FIELDS = ("key_path", "key_json")


def option_login(ref: ClusterRef) -> AzureLogin:
    """The credentials that a ref's own options name.

    Raises:
        ConfigurationError: what the login needs is missing.
    """
    tenant_id, client_id = options.text(ref, "tenant_id"), options.text(ref, "client_id")
    certificate, token_file = options.text(ref, "certificate_file"), options.text(ref, "federated_token_file")
    secret = _by_reference(ref, "client_secret")
    kind = options.text(ref, "login")
    if kind is None:
        kind = "default"
        if secret or certificate:
            kind = "service-principal"
        elif token_file:
            kind = "workload-identity"
    if kind == "service-principal":
        given = {
            "tenant_id": tenant_id,
            "client_id": client_id,
            "client_secret or certificate_file": secret or certificate,
        }
        missing = [name for name, value in given.items() if value is None]
        if missing:
            raise ConfigurationError(
                f"The service principal for the AKS cluster from {ref.source} lacks {', '.join(missing)}: give it."
            )
    return AzureLogin(
        source=f"the {kind} login of {ref.source}",
        kind=kind,
        cloud=cloud_of(ref, options.text(ref, "cloud") or "public"),
        tenant_id=tenant_id,
        client_id=client_id,
        secret=secret,
        certificate_file=certificate,
        certificate_password=_by_reference(ref, "certificate_password"),
        federated_token_file=token_file,
    )


def connection_login(connection: CloudConnection, ref: ClusterRef) -> AzureLogin:
    """The credentials of an Airflow connection.

    Login and password are a service principal's, as the azure provider has it; without them the process's own identity
    is used, a managed or workload identity of the connection where it names one.

    Raises:
        ConfigurationError: the connection is of another type, or incomplete.
    """
    connection.check_type("azure")
    for name in _UNSUPPORTED_FIELDS:
        if connection.get(name) is not None:
            raise ConfigurationError(
                f"The {connection.source} sets {name}, a form of credential that Azure has withdrawn: fill in login, "
                "password and tenantId."
            )
    tenant_id = connection.text("tenantId")
    login = AzureLogin(
        connection.source, cloud=cloud_of(ref, _cloud_name(connection, ref), connection), tenant_id=tenant_id
    )
    password = connection.password
    if connection.login and password:
        if tenant_id is None:
            raise ConfigurationError(f"The {connection.source} has no tenantId for its service principal: add it.")
        return replace(login, kind="service-principal", client_id=connection.login, secret=lambda: password)
    if connection.login or password:
        has, lacks = ("client id", "secret") if connection.login else ("secret", "client id")
        raise ConfigurationError(f"The {connection.source} has an Azure {has} but no {lacks}: add it there.")
    workload_tenant = connection.text("workload_identity_tenant_id")
    return replace(
        login,
        kind="default",
        tenant_id=workload_tenant or tenant_id,
        client_id=connection.text("managed_identity_client_id"),
    )


def cloud_of(ref: ClusterRef, name: str, connection: CloudConnection | None = None) -> AzureCloud:
    """The cloud of that name, with the addresses that a ref, or else a connection, puts in place of its own."""
    cloud = CLOUDS[name]
    authority, arm = options.text(ref, "authority_host"), options.text(ref, "arm_endpoint")
    if connection is not None:
        authority = authority or connection.endpoint("authority_host")
        arm = arm or connection.endpoint("arm_endpoint")
    if authority is not None:
        known = {known.authority for known in CLOUDS.values()}
        cloud = replace(cloud, authority=authority.rstrip("/"), discovery=authority.rstrip("/") in known)
    return cloud if arm is None else replace(cloud, arm=arm.rstrip("/"))


def _cloud_name(connection: CloudConnection, ref: ClusterRef) -> str:
    asked = options.text(ref, "cloud")
    written = connection.text("cloud_environment")
    if asked is not None or written is None:
        return asked or "public"
    name = CLOUD_NAMES.get(written.lower())
    if name is None:
        raise ConfigurationError(
            f"The {connection.source} has the cloud_environment {written!r}, which is none of AzurePublicCloud, "
            "AzureChinaCloud and AzureUSGovernment: correct it there."
        )
    return name


def _by_reference(ref: ClusterRef, name: str) -> Callable[[], str] | None:
    value: Any = options.text(ref, name)
    if value is None or not value.startswith("env:"):
        return None if value is None else lambda: str(value)
    variable = value.removeprefix("env:")

    def read() -> str:
        found = os.environ.get(variable)
        if not found:
            raise CredentialError(
                f"The environment variable {variable} ({name} of {ref.source}) is not set in this process: set it, on "
                "the triggerer too if the task defers."
            )
        return found

    return read
