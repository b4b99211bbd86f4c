"""Requests to any cluster that a kubeconfig leads to, for the tests' own preparations and checks.

They go through the official client, whatever the product uses: a test must not ask its subject whether it is right.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ClusterError, RefusedError
from .kubeconfig import Entry

_REQUEST_SECONDS = 60.0
_WAIT_SECONDS = 120.0


@dataclass(frozen=True)
class ServiceAccount:
    """A service account with few rights.

    Attributes:
        user: its name in audit logs and refusals.
        namespace: where it lives and has its rights.
        token: to authenticate as it.
        entry: a kubeconfig context for it; `kubeconfig.write` makes a file of it.
    """

    user: str
    namespace: str
    token: str = field(repr=False)
    entry: Entry = field(repr=False)


@dataclass(frozen=True)
class Executed:
    """What a command in a container did.

    Attributes:
        exit_code: of the command.
        stdout: what it wrote there.
        stderr: what it wrote there.
    """

    exit_code: int
    stdout: str
    stderr: str


class Client:
    """The user of one context of a kubeconfig.

    Args:
        path: of the kubeconfig.
        context: in it.
    """

    def __init__(self, path: Path, context: str) -> None:
        from kubernetes import client, config

        self.context = context
        configuration = client.Configuration()
        config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(path), context=context, client_configuration=configuration
        )
        self._client = client.ApiClient(configuration)

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()

    def request(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """Send one request and give back the decoded answer.

        Args:
            method: of HTTP.
            path: from `/api` or `/apis` on.
            body: to send as JSON; a merge patch for PATCH.
            query: parameters of the URL.

        Raises:
            RefusedError: the server answered with a failure.
        """
        return json.loads(self.text(method, path, body, **query))

    def text(self, method: str, path: str, body: Any = None, **query: str) -> str:
        """The same, for an answer that is not JSON."""
        with self._send(method, path, body, query, _REQUEST_SECONDS) as response:
            return str(response.data.decode())

    def watch(self, path: str, *, timeout_seconds: float = _WAIT_SECONDS, **query: str) -> Iterator[dict[str, Any]]:
        """The events of a watch on a collection, until the time is over."""
        # Longer than the server's own limit, which ends the watch in good order.
        query |= {"watch": "true", "timeoutSeconds": str(max(1, int(timeout_seconds)))}
        with self._send("GET", path, None, query, timeout_seconds + _REQUEST_SECONDS) as response:
            for line in response:
                yield json.loads(line)

    def wait(
        self, path: str, holds: Callable[[dict[str, Any]], bool], *, timeout_seconds: float = _WAIT_SECONDS
    ) -> dict[str, Any]:
        """Watch one object until something holds of it, and give the object back as it was then.

        Raises:
            ClusterError: it does not hold in time, or the object was deleted.
        """
        collection, _, name = path.rpartition("/")
        seen: dict[str, Any] = {}
        for event in self.watch(collection, timeout_seconds=timeout_seconds, fieldSelector=f"metadata.name={name}"):
            seen = event["object"]
            if event["type"] == "DELETED":
                raise ClusterError(f"{path} was deleted: {json.dumps(seen.get('status'))}")
            if holds(seen):
                return seen
        raise ClusterError(
            f"{path}: not within {timeout_seconds:.0f} s; its status is {json.dumps(seen.get('status'))}"
        )

    def execute(self, namespace: str, pod: str, command: Sequence[str]) -> Executed:
        """Run a command in a pod's only container."""
        from kubernetes import client, stream

        connection = stream.stream(
            client.CoreV1Api(self._client).connect_get_namespaced_pod_exec,
            pod,
            namespace,
            command=list(command),
            stdout=True,
            stderr=True,
            _preload_content=False,
        )
        try:
            connection.run_forever(timeout=_REQUEST_SECONDS)
            return Executed(connection.returncode, connection.read_stdout(timeout=0), connection.read_stderr(timeout=0))
        finally:
            connection.close()
            # Otherwise left open when it was the server that said goodbye.
            connection.sock.shutdown()

    def make_namespace(self, prefix: str = "kpo-test", *, name: str = "") -> str:
        """Make a namespace that pods can be created in at once, and give back its name.

        Args:
            prefix: what an unused name begins with.
            name: to be used instead.
        """
        name = name or f"{prefix}-{uuid.uuid4().hex[:10]}"
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        self.wait(f"/api/v1/namespaces/{name}/serviceaccounts/default", lambda account: True)
        return name

    def delete_namespace(self, name: str) -> None:
        """Ask for a namespace and all in it to be deleted; the cluster does so in its own time."""
        self.request("DELETE", f"/api/v1/namespaces/{name}")

    def make_service_account(
        self,
        namespace: str,
        rules: Sequence[Mapping[str, Sequence[str]]],
        *,
        name: str | None = None,
        lifetime_seconds: int = 3600,
    ) -> ServiceAccount:
        """Make a service account that may do what the rules say, in its own namespace, and nothing else.

        Args:
            namespace: an existing one.
            rules: as a Role has them, such as `{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}`.
            name: of the account; an unused one by default.
            lifetime_seconds: of its token, 600 at least.
        """
        name = name or f"account-{uuid.uuid4().hex[:8]}"
        core, rbac = f"/api/v1/namespaces/{namespace}", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        metadata = {"metadata": {"name": name}}
        self.request("POST", f"{core}/serviceaccounts", metadata)
        self.request("POST", f"{rbac}/roles", {**metadata, "rules": list(rules)})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        self.request("POST", f"{rbac}/rolebindings", {**metadata, "roleRef": role, "subjects": [subject]})
        asked = {"spec": {"expirationSeconds": lifetime_seconds}}
        token = self.request("POST", f"{core}/serviceaccounts/{name}/token", asked)["status"]["token"]
        configuration = self._client.configuration
        authority = Path(configuration.ssl_ca_cert).read_bytes() if configuration.ssl_ca_cert else None
        entry = Entry(self.context, configuration.host, authority, {"token": token}, namespace)
        return ServiceAccount(f"system:serviceaccount:{namespace}:{name}", namespace, token, entry)

    def _send(self, method: str, path: str, body: Any, query: Mapping[str, str], timeout_seconds: float) -> Any:
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        fields = {
            "query_params": list(query.items()),
            "header_params": {"Accept": "*/*", "Content-Type": content_type},
            "body": body,
            "auth_settings": ["BearerToken"],
        }
        if not hasattr(self._client, "param_serialize"):
            return self._send_by_36(method, path, fields, timeout_seconds)
        method, url, headers, body, _ = self._client.param_serialize(method=method, resource_path=path, **fields)
        response = self._client.call_api(method, url, headers, body, _request_timeout=timeout_seconds).response
        if response.status >= 400:
            raise RefusedError(method, path, response.status, response.data.decode())
        return response

    def _send_by_36(self, method: str, path: str, fields: Mapping[str, Any], timeout_seconds: float) -> Any:
        """As the client of Kubernetes 36 does it, which raises what the server refuses."""
        from kubernetes.client import ApiException

        options = {"_preload_content": False, "_return_http_data_only": True, "_request_timeout": timeout_seconds}
        try:
            return self._client.call_api(path, method, **fields, **options)
        except ApiException as error:
            raise RefusedError(method, path, error.status, str(error.body)) from None
