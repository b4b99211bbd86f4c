"""Emulated clouds whose clusters are a real one: it has an API server that asks them, by a webhook, who a user is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from demo.clouds import KINDS, Clouds, Guarded
from demo.clusters import Clusters, Sight
from demo.kubernetes import created
from kpo_multicluster.testing.clouds.identity import Identifier, Identity, TokenRefused
from kpo_multicluster.testing.clouds.webhook import TokenReviewer, TokenWebhook
from kpo_multicluster.testing.kubeconfig import write
from tests.cluster import bed
from tests.cluster.api import Administrator
from tests.cluster.audit import AuditLog
from tests.cluster.further_server import FurtherServer, further_api_server, webhook_flags
from tests.cluster.joining import RealNodes

CLUSTER = "beta"
_ROLES = "/apis/rbac.authorization.k8s.io/v1"
_RULES = (
    {"apiGroups": [""], "resources": ["pods", "pods/log", "pods/exec", "events"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
)


class KubernetesClouds(Clouds):
    """Clouds whose clusters are all `beta`. The witness is the audit log of the API server that their users talk to."""

    def __init__(self, directory: Path, others: Clusters, *, leftover: bool = False) -> None:
        super().__init__(directory, others, leftover=leftover)
        self._server: FurtherServer | None = None
        self._audit = AuditLog(bed.clusters()[CLUSTER].audit_log)

    def _start_clusters(self, stack: ExitStack) -> Mapping[str, Guarded]:
        webhook, anyone = stack.enter_context(TokenWebhook()), _AnyOf()
        webhook.serve(CLUSTER, TokenReviewer(anyone))
        flags = webhook_flags(write(self._directory / "webhook", webhook.kubeconfig(CLUSTER)))
        self._server = server = stack.enter_context(further_api_server(CLUSTER, flags))
        allow = _permission(server.administrator, stack)
        guarded = Guarded(server.url, server.authority, RealNodes(CLUSTER), anyone.add, allow)
        return dict.fromkeys(KINDS, guarded)

    def _seen_here(self, namespace: str, pod: str) -> Mapping[str, Sight]:
        if self._server is None or not created(self._server.audit, namespace, pod):
            return {}
        # The scheduler talks to the cluster's first API server.
        return {CLUSTER: Sight(self._server.url, self._audit.node(namespace, pod) or "")}

    def _left_here(self) -> list[str]:
        # The others look through this cluster.
        return []


class _AnyOf:
    """Whoever one of several vouches for."""

    def __init__(self) -> None:
        self._identifiers: list[Identifier] = []

    def add(self, identifier: Identifier) -> None:
        self._identifiers.append(identifier)

    def identify(self, token: str) -> Identity:
        for identifier in self._identifiers:
            try:
                return identifier.identify(token)
            except TokenRefused:
                continue
        raise TokenRefused("no cloud knows it")


def _permission(administrator: Administrator, stack: ExitStack) -> Callable[[str], None]:
    """Lets users run pods, until the stack is closed."""

    def make(kind: str, content: Mapping[str, Any]) -> str:
        name = f"kpo-demo-{uuid.uuid4().hex[:10]}"
        administrator.request("POST", f"{_ROLES}/{kind}", {"metadata": {"name": name}, **content})
        stack.callback(administrator.request, "DELETE", f"{_ROLES}/{kind}/{name}")
        return name

    role = make("clusterroles", {"rules": _RULES})

    def allow(user: str) -> None:
        group = "rbac.authorization.k8s.io"
        subject = {"apiGroup": group, "kind": "User", "name": user}
        reference = {"apiGroup": group, "kind": "ClusterRole", "name": role}
        make("clusterrolebindings", {"roleRef": reference, "subjects": [subject]})

    return allow
