"""Airflow's connections to clouds, handed to the resolvers of clusters."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kpo_multicluster.airflow_names import AirflowException, AirflowNotFoundException, airflow_connection, conf
from kpo_multicluster.auth.connections import CloudConnection
from kpo_multicluster.errors import ConfigurationError, CredentialError
from kpo_multicluster.hooks.fields import connection_fields

if TYPE_CHECKING:
    from kpo_multicluster.auth.aws_logins import AwsLogin

_AMAZON = "airflow.providers.amazon"
# The provider says with the second that it knows no such setting, as the third does of an argument.
_REFUSALS = (AirflowException, NotImplementedError, TypeError)


class AirflowConnections:
    """The connections of this Airflow.

    They are looked up in the thread that resolves a cluster; what is renewed later, in any thread, looks up none.
    """

    def get(self, conn_id: str) -> CloudConnection:
        """The connection of that id.

        Raises:
            ConfigurationError: there is none, or its extra is not a JSON object.
        """
        try:
            return connection_fields(airflow_connection(conn_id))
        except AirflowNotFoundException:
            raise ConfigurationError(
                f"There is no connection {conn_id!r}, which a cluster names as conn_id. Make it under Admin > "
                f"Connections, or set the environment variable AIRFLOW_CONN_{conn_id.upper()} where workers and "
                "triggerers run."
            ) from None

    def aws_login(self, conn_id: str, region: str | None) -> AwsLogin | None:
        """How the amazon provider logs in with a connection of type `aws`; None where it is not installed or needed.

        It knows more ways than keys and roles, such as SAML, and session factories of one's own. Its import and its
        sessions take as long as all the rest, so it is left alone where a connection says everything by itself.

        Args:
            conn_id: of the connection.
            region: of the cluster; default the connection's.

        Raises:
            ConfigurationError: there is no such connection, or the provider refuses it.
        """
        if find_spec(_AMAZON) is None:
            return None
        connection = self.get(conn_id)
        connection.check_type("aws")
        from kpo_multicluster.auth.aws_logins import AwsLogin, is_plain

        if is_plain(connection) and not conf.get("aws", "session_factory", fallback=None):
            return None
        base: Any = import_module(f"{_AMAZON}.aws.hooks.base_aws")
        hook = base.AwsGenericHook(aws_conn_id=conn_id, region_name=region)
        try:
            settings = hook.conn_config
        except _REFUSALS as error:
            raise ConfigurationError(f"The {connection.source} is refused by the amazon provider: {error}") from None

        def make() -> Any:
            try:
                return _AsBotocore(hook.get_session(region_name=settings.region_name))
            except (*_REFUSALS, LookupError) as error:
                fault = f"{type(error).__name__}: {error}"
            raise CredentialError(f"The amazon provider could not log in with {connection.source} ({fault}).")

        endpoints = {
            "eks": settings.get_service_endpoint_url("eks"),
            "sts": settings.get_service_endpoint_url("sts", sts_connection_assume=True),
        }
        return AwsLogin(
            connection.source,
            make,
            region=settings.region_name,
            endpoints={service: url for service, url in endpoints.items() if url},
            verify=settings.verify,
            config=settings.botocore_config,
        )


class _AsBotocore:
    """A session of boto3 under the names of the one of botocore that it wraps."""

    def __init__(self, session: Any) -> None:
        self.get_credentials = session.get_credentials
        self.create_client = session.client
        self._settings = {"region": session.region_name}

    def get_config_variable(self, name: str) -> Any:
        return self._settings[name]
