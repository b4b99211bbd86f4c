"""The ways to name AWS credentials: boto3's own chain, a profile, an Airflow connection, an environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from kpo_multicluster.auth.connections import CloudConnection
from kpo_multicluster.errors import ConfigurationError, MissingExtraError

DEFAULT_SESSION_NAME = "kpo-multicluster"
_PROVIDER = "install apache-airflow-providers-amazon, whose hook is then used"
_TOKEN_FILE_FEDERATION = "file"
# Extra fields of a connection that `connection_login` reads, and those that have nothing to do with AWS credentials.
_READ_FIELDS = (
    "assume_role_kwargs",
    "assume_role_method",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "endpoint_url",
    "external_id",
    "profile_name",
    "region_name",
    "role_arn",
    "service_config",
    "verify",
)
_OTHER_FIELDS = ("cluster",)
_VARIABLES = {
    "profile": ("AWS_DEFAULT_PROFILE", "AWS_PROFILE"),
    "config_file": ("AWS_CONFIG_FILE",),
    "credentials_file": ("AWS_SHARED_CREDENTIALS_FILE",),
    "ca_bundle": ("AWS_CA_BUNDLE",),
}

ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "AWS_STS_REGIONAL_ENDPOINTS",
)
"""The variables that `environment_login` understands."""


@dataclass(frozen=True)
class AssumedRole:
    """A role to assume.

    Attributes:
        arn: of the role.
        session_name: shown in CloudTrail and in the caller's ARN.
        external_id: that its trust policy asks for.
        web_identity_token_file: path of a token to assume it with, in place of the credentials before it.
        arguments: further ones of the AssumeRole call, such as `DurationSeconds`.
    """

    arn: str
    session_name: str = DEFAULT_SESSION_NAME
    external_id: str | None = None
    web_identity_token_file: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class AwsLogin:
    """Whose AWS credentials to use.

    Attributes:
        source: where they come from, for messages, such as "connection 'aws_remote'".
        make: makes a `botocore.session.Session` with them, or what has its methods `get_credentials`, `create_client`
            and `get_config_variable`; may block, and is called again after a fork.
        roles: to assume with them, one after another.
        region: that comes with them.
        endpoints: where to call a service instead of its own host, by its name: `eks`, `sts`.
        verify: False to accept any certificate of AWS, or the path of a CA bundle.
        config: a `botocore.config.Config` for clients.
    """

    source: str
    make: Callable[[], Any] = field(repr=False)
    roles: tuple[AssumedRole, ...] = ()
    region: str | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    verify: bool | str | None = None
    config: Any = field(default=None, repr=False)


def chain_login(profile: str | None = None) -> AwsLogin:
    """boto3's own chain: environment, shared configuration, IRSA, Pod Identity, instance role.

    Args:
        profile: of the shared configuration, in place of all others.
    """
    source = f"profile {profile!r}" if profile else "boto3's default credentials of this process"
    return AwsLogin(source, lambda: botocore_session({"profile": profile}))


def environment_login(env: Mapping[str, str], *, source: str, profile: str | None = None) -> AwsLogin:
    """boto3's own chain as it would go in another environment, which is not entered.

    Args:
        env: that environment, this process's own variables included; of those that boto3 reads only `ENVIRONMENT` may
            differ from them.
        source: what asks, for messages.
        profile: named by a command's argument, which goes before all of the environment.
    """

    def make() -> Any:
        variables: dict[str, str | None] = {}
        for variable, names in _VARIABLES.items():
            value, here = (next((e[name] for name in names if e.get(name)), None) for e in (env, os.environ))
            # What botocore finds in its own environment it treats otherwise than what it is told.
            if value != here:
                variables[variable] = value
        variables["profile"] = profile or variables.get("profile")
        key, secret = env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY")
        session = botocore_session(variables)
        # Keys in the environment go before a profile named there, but not before one named by an argument.
        if key and secret and not profile:
            session.set_credentials(key, secret, env.get("AWS_SESSION_TOKEN"))
        return session

    return AwsLogin(source, make, region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION"))


def is_plain(connection: CloudConnection) -> bool:
    """Whether a connection of type `aws` says all by its own fields: keys or boto3's own chain, and a role by them."""
    unread = connection.others((*_READ_FIELDS, *_OTHER_FIELDS))
    return not unread and connection.get("assume_role_method") in (None, "assume_role")


def connection_login(connection: CloudConnection) -> AwsLogin:
    """An Airflow connection of type `aws`, by its own fields.

    Raises:
        ConfigurationError: the connection is of another type, or needs that provider.
    """
    connection.check_type("aws")
    key = connection.login or connection.text("aws_access_key_id")
    secret = connection.password or connection.text("aws_secret_access_key")
    if bool(key) != bool(secret):
        has, lacks = ("access key id", "secret access key") if key else ("secret access key", "access key id")
        raise ConfigurationError(f"The {connection.source} has an AWS {has} but no {lacks}: add it there.")
    token, profile = connection.text("aws_session_token"), connection.text("profile_name")

    def make() -> Any:
        session = botocore_session({"profile": profile})
        if key and secret:
            session.set_credentials(key, secret, token)
        return session

    services = connection.mapping("service_config") or {}
    endpoints = {"eks": connection.text("endpoint_url")}
    for service in ("eks", "sts"):
        endpoints[service] = (services.get(service) or {}).get("endpoint_url") or endpoints.get(service)
    return AwsLogin(
        connection.source,
        make,
        roles=_roles(connection),
        region=connection.text("region_name"),
        endpoints={service: url for service, url in endpoints.items() if url},
        verify=connection.get("verify"),
        config=_config(connection),
    )


def botocore_session(variables: Mapping[str, str | None]) -> Any:
    """A session of botocore, with some of its configuration variables set.

    Raises:
        MissingExtraError: boto3 is not installed.
    """
    check_installed()
    from botocore.session import Session

    session = Session()
    # Before anything is read: a session keeps the configuration files it has found.
    for name, value in variables.items():
        if value is not None:
            session.set_config_variable(name, value)
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


def aws_endpoints() -> Any:
    """What botocore knows of AWS's regions and the hosts of its services, by the description that its sessions load."""
    check_installed()
    from botocore.regions import EndpointResolver

    return EndpointResolver(_loader(os.environ.get("AWS_DATA_PATH") or None).load_data("endpoints"))


@lru_cache(maxsize=4)
def _loader(path: str | None) -> Any:
    # Each loader reads and keeps the descriptions of AWS's services anew: megabytes, and most of a session's time.
    from botocore.loaders import create_loader

    return create_loader(path)


def _roles(connection: CloudConnection) -> tuple[AssumedRole, ...]:
    arn = connection.text("role_arn")
    if arn is None:
        return ()
    method = connection.text("assume_role_method") or "assume_role"
    arguments = dict(connection.mapping("assume_role_kwargs") or {})
    name = arguments.pop("RoleSessionName", DEFAULT_SESSION_NAME)
    if method == "assume_role":
        return (AssumedRole(arn, name, connection.text("external_id"), arguments=arguments),)
    federation = connection.text("assume_role_with_web_identity_federation")
    path = connection.text("assume_role_with_web_identity_token_file")
    if method == "assume_role_with_web_identity" and federation in (None, _TOKEN_FILE_FEDERATION) and path:
        return (AssumedRole(arn, name, web_identity_token_file=path, arguments=arguments),)
    raise ConfigurationError(
        f"The {connection.source} has the assume_role_method {method!r}, which needs the amazon provider here: "
        f"{_PROVIDER}."
    )


def _config(connection: CloudConnection) -> Any:
    arguments = connection.mapping("config_kwargs")
    if not arguments:
        return None
    check_installed()
    from botocore.config import Config

    fault = ""
    try:
        return Config(**arguments)
    except TypeError as error:
        fault = str(error)
    raise ConfigurationError(f"The config_kwargs of {connection.source} are not botocore's: {fault}.")


def check_installed() -> None:
    """Refuses to go on without the AWS SDK.

    Raises:
        MissingExtraError: boto3 is not installed.
    """
    try:
        import botocore.session  # noqa: F401 - all that is used of boto3, and half the time of its import
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "botocore":
            raise
        raise MissingExtraError("A cluster of EKS", "eks") from None
