"""Why an EKS cluster refused a request: its API server says 401 to all that is wrong with a token, and no more.

What it does not say is asked of AWS: who the token speaks for, whether the cluster knows them, what time it is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kpo_multicluster.auth.aws_errors import is_aws_error, said, skew_seconds, skew_text
from kpo_multicluster.auth.aws_session import AwsSession
from kpo_multicluster.auth.eks_cluster import EksCluster, describe
from kpo_multicluster.auth.server import is_private
from kpo_multicluster.errors import (
    ConfigurationError,
    ConnectError,
    CredentialError,
    KpoMulticlusterError,
    UnauthorizedError,
)

_ASSUMED_ROLE = re.compile(r"arn:([\w-]+):sts::(\d{12}):assumed-role/([^/]+)/.*")


@dataclass(frozen=True)
class EksFacts:
    """What is known of a refusal. None where AWS does not say.

    Attributes:
        source: whose credentials these are.
        cluster: its name.
        region: of it.
        server: that refused.
        caller: ARN of the one the token speaks for.
        fault: why AWS itself refused these credentials, if it did.
        skew: seconds that this host's clock is ahead of AWS's.
        described: what EKS says of a cluster of this name.
        missing: what EKS says when there is none.
        entries: ARNs of the principals with an access entry.
    """

    source: str
    cluster: str
    region: str
    server: str
    caller: str | None = None
    fault: str | None = None
    skew: float | None = None
    described: EksCluster | None = None
    missing: str | None = None
    entries: tuple[str, ...] | None = None


def explainer(session: AwsSession, cluster: EksCluster) -> Callable[[KpoMulticlusterError], list[str]]:
    """What a `ClusterAccess` is given to explain refusals by."""

    def explain(error: KpoMulticlusterError) -> list[str]:
        if isinstance(error, UnauthorizedError):
            return unauthorized(gather(session, cluster))
        if isinstance(error, ConnectError):
            return unreachable(cluster)
        return []

    return explain


def unauthorized(facts: EksFacts) -> list[str]:
    """Findings for a 401."""
    skewed = skew_text(facts.skew)
    found = [] if skewed is None else [skewed]
    if facts.fault is not None:
        return [*found, f"AWS itself refuses the credentials of {facts.source}: {facts.fault}"]
    if facts.missing is not None:
        return [*found, f"The token was signed for a cluster that does not exist, so none accepts it. {facts.missing}"]
    described = facts.described
    if described is not None and described.endpoint != facts.server:
        return [
            *found,
            f"The token was signed for the EKS cluster {facts.cluster!r} in {facts.region}, whose endpoint is "
            f"{described.endpoint}; {facts.server} is another cluster's. Make cluster_name and endpoint name the same "
            "one.",
        ]
    return [*found, _unmapped(facts)]


def unreachable(cluster: EksCluster) -> list[str]:
    """Findings for an API server that does not answer."""
    host = cluster.endpoint.partition("://")[2]
    if cluster.public and not is_private(host):
        return []
    return [
        f"The endpoint of the EKS cluster {cluster.name!r} is private: only hosts in its VPC, or connected to it, "
        "reach it. Run this task on such a host, or enable the cluster's public endpoint."
    ]


def principal(caller: str) -> str:
    """The IAM principal behind a caller's ARN: of a role's session, the role, less its path, which STS leaves out."""
    match = _ASSUMED_ROLE.fullmatch(caller)
    return f"arn:{match[1]}:iam::{match[2]}:role/{match[3]}" if match else caller


def _unmapped(facts: EksFacts) -> str:
    caller = facts.caller or "an identity AWS does not name"
    account = caller.split(":")[4] if caller.count(":") >= 5 else "unknown"
    arn = facts.described.arn if facts.described else ""
    owner = f" in account {arn.split(':')[4]}" if arn.count(":") >= 5 else ""
    text = (
        f"Authenticated to AWS as {caller} (account {account}, by {facts.source}); the EKS cluster {facts.cluster!r}"
        f"{owner} refused it"
    )
    who = principal(caller)
    mode = facts.described.authentication_mode if facts.described else None
    if facts.entries is not None and any(_same(entry, who) for entry in facts.entries):
        return (
            f"{text}, although it has an access entry for {who}. A new entry takes a minute to count; if the role was "
            "deleted and made again under the same name, recreate the entry."
        )
    entry = f"aws eks create-access-entry --cluster-name {facts.cluster} --region {facts.region} --principal-arn {who}"
    mapping = f"a mapRoles or mapUsers item for {who} in the ConfigMap kube-system/aws-auth"
    if mode == "CONFIG_MAP":
        return f"{text}: it has no aws-auth mapping, and its authentication mode is CONFIG_MAP: add {mapping}."
    known = "it has no access entry" if mode == "API" else "it has no access entry or aws-auth mapping"
    if facts.entries is None:
        known = f"probably {known} for {who} (this identity may not list them)"
    also = "" if mode == "API" else f" (or add {mapping})"
    return f"{text}: {known}. Add one: {entry}{also}, and give it an access policy or RBAC rights."


def _same(entry: str, who: str) -> bool:
    # The ARN of a role with a path names it; that of its session does not.
    return entry == who or (
        ":role/" in entry
        and entry.split(":role/")[0] == who.split(":role/")[0]
        and entry.rpartition("/")[2] == who.rpartition("/")[2]
    )


def gather(session: AwsSession, cluster: EksCluster) -> EksFacts:
    """Asks AWS what it knows; what it does not tell stays None."""
    facts: dict[str, Any] = {}
    try:
        answer = session.client("sts").get_caller_identity()
        facts.update(caller=answer["Arn"], skew=skew_seconds(answer, session.clock()))
    except CredentialError as error:
        facts["fault"] = str(error)
    except Exception as error:
        if not is_aws_error(error):
            raise
        facts.update(fault=said(error), skew=skew_seconds(error, session.clock()))
    if "fault" not in facts:
        facts.update(_cluster_facts(session, cluster.name))
    return EksFacts(session.source, cluster.name, session.region, cluster.endpoint, **facts)


def _cluster_facts(session: AwsSession, name: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    try:
        facts["described"] = describe(session, name)
    except ConfigurationError as error:
        facts["missing"] = str(error)
    except (CredentialError, ConnectError):
        pass
    try:
        pages = session.client("eks").get_paginator("list_access_entries").paginate(clusterName=name)
        facts["entries"] = tuple(arn for page in pages for arn in page["accessEntries"])
    except CredentialError:
        pass
    except Exception as error:
        if not is_aws_error(error):
            raise
    return facts
