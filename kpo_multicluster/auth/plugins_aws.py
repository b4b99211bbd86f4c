"""`aws eks get-token` and `aws-iam-authenticator token`, in process.

Sources: the AWS CLI's reference of the one, the README of the other; both sign what `eks_token` signs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from kpo_multicluster.auth.access import Token
from kpo_multicluster.auth.aws_logins import (
    DEFAULT_SESSION_NAME,
    ENVIRONMENT,
    AssumedRole,
    AwsLogin,
    environment_login,
)
from kpo_multicluster.auth.aws_session import AwsSession
from kpo_multicluster.auth.eks_token import EksTokens, sts_host
from kpo_multicluster.auth.exec_plugin import ExecPlugin
from kpo_multicluster.auth.plugin_arguments import Fetcher, Grammar, NotServedError, environment_of, serve
from kpo_multicluster.errors import ConfigurationError

_CLI = Grammar(
    command=("eks", "get-token"),
    values=(
        "--cluster-name",
        "--cluster-id",
        "--role-arn",
        "--session-name",
        "--region",
        "--profile",
        "--output",
        "--color",
        "--cli-connect-timeout",
        "--cli-read-timeout",
    ),
    switches=("--no-cli-pager", "--no-paginate", "--debug"),
    environment=ENVIRONMENT,
)
_CLUSTER_ID_VARIABLE = "KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID"
_AUTHENTICATOR = Grammar(
    command=("token",),
    values=(
        "--cluster-id",
        "--role",
        "--external-id",
        "--session-name",
        "--region",
        "--log-format",
        "--log-verbosity",
    ),
    # It caches keys on disk; here they are held in memory.
    switches=("--cache",),
    short={
        "-i": "--cluster-id",
        "-r": "--role",
        "-e": "--external-id",
        "-s": "--session-name",
        "-l": "--log-format",
        "-v": "--log-verbosity",
    },
    environment=(*ENVIRONMENT, _CLUSTER_ID_VARIABLE, "DEFAULT_ROLE", "AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY"),
)
# What both sign for when nothing names a region.
_FALLBACK_REGION = "us-east-1"


def aws(plugin: ExecPlugin) -> Fetcher | None:
    """Stands in for `aws eks get-token`."""

    def make() -> Fetcher:
        flags, env = _CLI.read(plugin), environment_of(plugin)
        login = environment_login(env, source=plugin.source, profile=flags.get("--profile"))
        arn = flags.get("--role-arn")
        if arn:
            role = AssumedRole(arn, flags.get("--session-name") or "EKSGetTokenAuth")
            login = replace(login, roles=(role,))
        name = flags.get("--cluster-name") or flags.get("--cluster-id")
        return _fetcher(login, _named(name), flags.get("--region"))

    return serve(plugin, make, needs="botocore", extra="eks")


def aws_iam_authenticator(plugin: ExecPlugin) -> Fetcher | None:
    """Stands in for `aws-iam-authenticator token`."""

    def make() -> Fetcher:
        flags, env = _AUTHENTICATOR.read(plugin), environment_of(plugin)
        login = environment_login(env, source=plugin.source)
        arn = flags.get("--role") or env.get("DEFAULT_ROLE")
        if arn:
            name = flags.get("--session-name") or DEFAULT_SESSION_NAME
            login = replace(login, roles=(AssumedRole(arn, name, flags.get("--external-id")),))
        return _fetcher(
            login, _named(flags.get("--cluster-id") or env.get(_CLUSTER_ID_VARIABLE)), flags.get("--region")
        )

    return serve(plugin, make, needs="botocore", extra="eks")


def _named(cluster_name: str | None) -> str:
    if not cluster_name:
        raise NotServedError("its arguments name no cluster")
    return cluster_name


def _fetcher(login: AwsLogin, cluster_name: str, region: str | None, clock: Callable[[], float] = time.time) -> Fetcher:
    made: list[EksTokens] = []

    def fetch() -> Token:
        if not made:
            session = AwsSession(login, region=region, clock=clock)
            try:
                _ = session.region
            except ConfigurationError:
                session = AwsSession(login, region=_FALLBACK_REGION, clock=clock)
            host = sts_host(session.region, None, source=login.source)
            made.append(EksTokens(session, cluster_name=cluster_name, host=host, clock=clock))
        return made[0].fetch()

    return fetch
