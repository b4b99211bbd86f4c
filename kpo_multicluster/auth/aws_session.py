"""AWS credentials that renew themselves, in process, and clients that use them.

boto3 finds and renews the credentials: profiles, IRSA, Pod Identity and instance roles are its own chain. What is added
is a further role to assume, errors that say who was refused what, and safety across a fork.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpo_multicluster.auth.aws_errors import credential_error, is_aws_error, role_refused
from kpo_multicluster.auth.aws_logins import AwsLogin
from kpo_multicluster.errors import ConfigurationError, CredentialError

_CONNECT_SECONDS = 10
_READ_SECONDS = 30
# A role's keys are renewed this long before their end, or at half their life, so that a token of 14 minutes outlives
# none.
_ROLE_MARGIN_SECONDS = 15 * 60.0
# Keys that could not be renewed serve on while they last; asked for again no sooner than this.
_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class AwsKeys:
    """AWS keys, and their end.

    Attributes:
        access_key: its id.
        secret_key: the secret.
        token: of the session, if the keys are temporary.
        expires_at: Unix time in seconds; None when they do not end, as far as is known.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: float | None = None


class AwsSession:
    """Credentials for one cluster, held as a session that renews them rather than as keys.

    A session belongs to one process: its locks and connections do not survive a fork, so a child makes its own.

    Args:
        login: whose credentials.
        region: where clients call AWS; default that of the login, else of its profile or the environment.
        clock: Unix time in seconds.
    """

    def __init__(self, login: AwsLogin, *, region: str | None, clock: Callable[[], float] = time.time) -> None:
        self.login = login
        self.clock = clock
        self._region = region or login.region
        self._logged_in: dict[int, _LoggedIn] = {}

    @property
    def source(self) -> str:
        """Whose credentials these are, for messages."""
        if not self.login.roles:
            return self.login.source
        return f"{self.login.source} in the role {self.login.roles[-1].arn}"

    @property
    def region(self) -> str:
        """Where clients call AWS.

        Raises:
            ConfigurationError: nothing names one.
            CredentialError: the login, which may name it, failed.
        """
        if self._region is None:
            # boto3 leaves AWS_REGION alone, which EKS sets in the pods of its service accounts.
            self._region = self._session().botocore.get_config_variable("region") or os.environ.get("AWS_REGION")
        if not self._region:
            raise ConfigurationError(
                f"No AWS region is known: give the cluster's as region=, or set one in {self.login.source}."
            )
        return self._region

    def keys(self) -> AwsKeys:
        """The keys as they are now; renewed when they near their end.

        Raises:
            CredentialError: there are none, or they could not be renewed.
        """
        return self._keys(len(self.login.roles))

    def client(self, service: str) -> Any:
        """A client of a service, such as `eks`.

        Raises:
            CredentialError: there are no credentials.
        """
        return self._client(service, self.keys())

    def discard(self) -> None:
        """Forgets the session: the next use logs in anew. For credentials that were refused."""
        self._logged_in.pop(os.getpid(), None)

    def _session(self) -> _LoggedIn:
        made = self._logged_in.get(os.getpid())
        return made if made is not None else self._logged_in.setdefault(os.getpid(), self._log_in())

    def _log_in(self) -> _LoggedIn:
        try:
            session = self.login.make()
            credentials = session.get_credentials()
        except Exception as error:
            if not is_aws_error(error):
                raise
            raise credential_error(error, source=self.login.source, now=self.clock()) from None
        return _LoggedIn(session, credentials)

    def _keys(self, hops: int) -> AwsKeys:
        if hops == 0:
            return self._own_keys()
        session = self._session()
        with session.lock:
            keys, renew_at = session.assumed.get(hops, (None, 0.0))
            if keys is not None and self.clock() < renew_at:
                return keys
            try:
                made = self._assume(hops, ended=keys.expires_at if keys is not None else None)
            except CredentialError:
                if keys is None or self.clock() >= (keys.expires_at or 0.0):
                    raise
                session.assumed[hops] = keys, self.clock() + _RETRY_SECONDS
                return keys
            life = (made.expires_at or 0.0) - self.clock()
            session.assumed[hops] = made, self.clock() + life - min(_ROLE_MARGIN_SECONDS, life / 2)
            return made

    def _own_keys(self) -> AwsKeys:
        credentials, ended = self._session().credentials, None
        if credentials is None:
            raise CredentialError(
                f"There are no AWS credentials in {self.login.source}. Give some: an Airflow connection of type aws as "
                "conn_id, a profile, or a role for this process's service account (IRSA or Pod Identity).",
                final=True,
            )
        try:
            frozen = credentials.get_frozen_credentials()
        except Exception as error:
            if not is_aws_error(error):
                raise
            ended = _end_of(credentials)
            raise credential_error(error, source=self.login.source, now=self.clock(), ended=ended) from None
        return AwsKeys(frozen.access_key, frozen.secret_key, frozen.token, _end_of(credentials))

    def _assume(self, hops: int, *, ended: float | None) -> AwsKeys:
        role = self.login.roles[hops - 1]
        arguments = {"RoleArn": role.arn, "RoleSessionName": role.session_name, **role.arguments}
        if role.external_id is not None:
            arguments["ExternalId"] = role.external_id
        try:
            if role.web_identity_token_file is not None:
                token = Path(role.web_identity_token_file).read_text(encoding="utf-8")
                client = self._client("sts", None)
                answer = client.assume_role_with_web_identity(WebIdentityToken=token, **arguments)
            else:
                answer = self._client("sts", self._keys(hops - 1)).assume_role(**arguments)
        except Exception as error:
            if not is_aws_error(error):
                raise
            caller = self._caller(hops - 1) or f"The identity of {self.login.source}"
            raise role_refused(
                error,
                role=role.arn,
                external_id=arguments.get("ExternalId"),
                caller=caller,
                now=self.clock(),
                ended=ended,
            ) from None
        made = answer["Credentials"]
        return AwsKeys(
            made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], made["Expiration"].timestamp()
        )

    def _caller(self, hops: int) -> str | None:
        try:
            return str(self._client("sts", self._keys(hops)).get_caller_identity()["Arn"])
        except CredentialError:
            return None
        except Exception as error:
            if not is_aws_error(error):
                raise
            return None

    def _client(self, service: str, keys: AwsKeys | None) -> Any:
        from botocore import UNSIGNED
        from botocore.config import Config

        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "max_attempts": 3},
        )
        if self.login.config is not None:
            config = config.merge(self.login.config)
        if keys is None:
            config = config.merge(Config(signature_version=UNSIGNED))
        return self._session().botocore.create_client(
            service,
            region_name=self.region,
            endpoint_url=self.login.endpoints.get(service),
            verify=self.login.verify,
            config=config,
            aws_access_key_id=keys.access_key if keys else None,
            aws_secret_access_key=keys.secret_key if keys else None,
            aws_session_token=keys.token if keys else None,
        )


@dataclass(frozen=True)
class _LoggedIn:
    """One process's session: of botocore, its credentials, and by hop the keys of each role and when to renew them."""

    botocore: Any
    credentials: Any
    assumed: dict[int, tuple[AwsKeys, float]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


def _end_of(credentials: Any) -> float | None:
    # botocore tells no one else, yet a token cannot outlive the keys that signed it.
    end = getattr(credentials, "_expiry_time", None)
    return None if end is None else float(end.timestamp())
