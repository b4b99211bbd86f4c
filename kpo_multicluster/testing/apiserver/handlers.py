"""What each address answers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from kpo_multicluster.testing.apiserver import deletion, openapi
from kpo_multicluster.testing.apiserver.decoding import decode
from kpo_multicluster.testing.apiserver.identity import Identities, may
from kpo_multicluster.testing.apiserver.listing import integer, list_options, selection
from kpo_multicluster.testing.apiserver.objects import ObjectApi
from kpo_multicluster.testing.apiserver.patch import apply_patch
from kpo_multicluster.testing.apiserver.pod_exec import check_upgrade, exec_options, serve_exec
from kpo_multicluster.testing.apiserver.pod_log import choose_container, log_options, open_log
from kpo_multicluster.testing.apiserver.request_info import RequestInfo
from kpo_multicluster.testing.apiserver.resources import PODS, RESOURCES, REVIEW_KINDS, Resource, discovery
from kpo_multicluster.testing.apiserver.server import Exchange, json_answer, standing_headers
from kpo_multicluster.testing.apiserver.status import (
    StatusError,
    bad_request,
    internal_error,
    invalid,
    invalid_value,
    method_not_allowed,
    no_such_resource,
    not_supported,
)
from kpo_multicluster.testing.apiserver.timestamps import to_seconds
from kpo_multicluster.testing.apiserver.watching import watch_events, watch_options
from kpo_multicluster.testing.control_plane import ControlPlane
from kpo_multicluster.testing.store import Store
from kpo_multicluster.testing.topology import KUBELET_VERSION

_HEALTH_PATHS = frozenset({"/readyz", "/livez", "/healthz"})
_MEDIA_TYPES = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_VERSION = {
    "major": "1",
    "minor": "34",
    "emulationMajor": "1",
    "emulationMinor": "34",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "33",
    "gitVersion": KUBELET_VERSION,
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}


@dataclass(frozen=True)
class Handlers:
    """Answers requests that were let in.

    Attributes:
        store: the objects.
        objects: what may be done to them.
        control: knows which node runs a pod.
        identities: the users.
        clock: Unix time in seconds.
        bookmark_seconds: how often watches that take bookmarks are sent one.
    """

    store: Store
    objects: ObjectApi
    control: ControlPlane
    identities: Identities
    clock: Callable[[], float]
    bookmark_seconds: float

    async def handle(self, exchange: Exchange) -> web.StreamResponse:
        """Answers one request.

        Raises:
            StatusError: with what to answer instead.
        """
        info = exchange.info
        if info.path in _HEALTH_PATHS:
            return web.Response(text="ok", headers=standing_headers())
        if not info.resource:
            return self._document(exchange)
        if info.group:
            return await self._review(exchange)
        _check_accept(exchange.request)
        resource = _resource(info)
        if info.subresource:
            return await self._subresource(exchange, resource)
        if not info.name:
            return await self._collection(exchange, resource)
        return await self._object(exchange, resource)

    def _document(self, exchange: Exchange) -> web.StreamResponse:
        path = exchange.info.path.rstrip("/")
        if path == "/version":
            return json_answer(_VERSION)
        documents = {**discovery(exchange.request.host), **openapi.documents()}
        if path in documents:
            return json_answer(documents[path])
        # Below a group that exists, and below /api, a real server knows what it was asked for.
        if path.startswith("/api/") or (path.startswith("/apis/") and "/".join(path.split("/")[:3]) in documents):
            raise no_such_resource()
        return web.Response(text="404 page not found\n", status=404, headers=standing_headers())

    async def _collection(self, exchange: Exchange, resource: Resource) -> web.StreamResponse:
        info, query = exchange.info, exchange.query
        namespace = info.namespace
        if info.verb == "list":
            return json_answer(self.objects.list(resource, namespace, list_options(resource, query)))
        if info.verb == "watch":
            return await self._watch(exchange, resource)
        if resource.namespaced and not namespace:
            raise method_not_allowed()
        if info.verb == "create":
            item = await self._body(exchange, resource)
            dry_run = _dry_run(query, "CreateOptions")
            return json_answer(self.objects.create(resource, namespace, item, dry_run=dry_run), 201)
        if info.verb == "deletecollection":
            options = deletion.parse_options(query, await exchange.body())
            matches = selection(resource, query)
            return json_answer(self.objects.delete_collection(resource, namespace, matches, options))
        raise method_not_allowed()

    async def _object(self, exchange: Exchange, resource: Resource) -> web.StreamResponse:
        info, query = exchange.info, exchange.query
        namespace = info.namespace if resource.namespaced else ""
        if info.verb == "get":
            version = integer(query, "resourceVersion") or 0
            return json_answer(self.objects.get(resource, namespace, info.name, version=version))
        if info.verb in ("update", "patch"):
            return await self._change(exchange, resource, namespace)
        if info.verb == "delete":
            options = deletion.parse_options(query, await exchange.body())
            return json_answer(self.objects.delete(resource, namespace, info.name, options))
        raise method_not_allowed()

    async def _change(self, exchange: Exchange, resource: Resource, namespace: str) -> web.StreamResponse:
        info = exchange.info
        if info.verb == "update":
            item = await self._body(exchange, resource)
            changed = self.objects.replace(
                resource,
                namespace,
                info.name,
                item,
                subresource=info.subresource,
                dry_run=_dry_run(exchange.query, "UpdateOptions"),
            )
            return json_answer(changed)
        body = await exchange.body()
        content_type = exchange.request.headers.get("Content-Type", "").partition(";")[0].strip()
        changed = self.objects.patch(
            resource,
            namespace,
            info.name,
            lambda old: apply_patch(content_type, old, body),
            subresource=info.subresource,
            dry_run=_dry_run(exchange.query, "PatchOptions"),
        )
        return json_answer(changed)

    async def _subresource(self, exchange: Exchange, resource: Resource) -> web.StreamResponse:
        info = exchange.info
        namespace = info.namespace if resource.namespaced else ""
        verbs = resource.subresources.get(info.subresource)
        if verbs is None:
            raise no_such_resource()
        if info.verb not in verbs:
            raise method_not_allowed()
        if info.subresource == "log":
            return await self._log(exchange, namespace)
        if info.subresource == "exec":
            return await self._exec(exchange, namespace)
        if info.verb == "get":
            return json_answer(self.objects.get(resource, namespace, info.name))
        return await self._change(exchange, resource, namespace)

    async def _body(self, exchange: Exchange, resource: Resource) -> dict[str, Any]:
        body = await exchange.body()
        return decode(body, exchange.request.headers.get("Content-Type", ""), resource.kind, "v1")

    async def _watch(self, exchange: Exchange, resource: Resource) -> web.StreamResponse:
        namespace = exchange.info.namespace if resource.namespaced else ""
        options = watch_options(resource, namespace, exchange.query, self.bookmark_seconds)
        stream = await exchange.stream("application/json")
        events = watch_events(self.store, options)
        try:
            async for event in events:
                await stream.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        finally:
            if isinstance(events, AsyncGenerator):
                await events.aclose()
        return stream.response

    async def _log(self, exchange: Exchange, namespace: str) -> web.StreamResponse:
        name = exchange.info.name
        options = log_options(name, exchange.query)
        pod = self.objects.get(PODS, namespace, name)
        container = choose_container(pod, exchange.query.get("container", ""))
        if not pod["spec"].get("nodeName"):
            return web.Response(status=204, headers=standing_headers())
        node = self.control.node_of(pod)
        if node is None:
            raise _no_kubelet(pod)
        pieces = await open_log(node, pod, container, options)
        try:
            stream = await exchange.stream("text/plain")
            async for piece in pieces:
                await stream.write(piece)
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
        return stream.response

    async def _exec(self, exchange: Exchange, namespace: str) -> web.StreamResponse:
        request = exchange.request
        options = exec_options(request.query, request.query.getall("command", []))
        pod = self.objects.get(PODS, namespace, exchange.info.name)
        container = choose_container(pod, options.container)
        if not pod["spec"].get("nodeName"):
            raise bad_request(f"pod {exchange.info.name} does not have a host assigned")
        node = self.control.node_of(pod)
        if node is None:
            raise _no_kubelet(pod)
        check_upgrade(request, options)
        return await serve_exec(request, node, pod, options.of(container), exchange.cut)

    async def _review(self, exchange: Exchange) -> web.StreamResponse:
        info, user = exchange.info, exchange.user
        kind = REVIEW_KINDS.get(info.resource)
        version = f"{info.group}/{info.version}"
        documents = discovery(exchange.request.host)
        if f"/apis/{info.group}" not in documents:
            return web.Response(text="404 page not found\n", status=404, headers=standing_headers())
        if kind is None or f"/apis/{version}" not in documents:
            raise no_such_resource()
        if info.verb != "create" or user is None:
            raise method_not_allowed()
        body = await exchange.body()
        review = decode(body, exchange.request.headers.get("Content-Type", ""), kind, version)
        if kind == "SelfSubjectReview":
            groups = [*user.groups, "system:authenticated"]
            status: dict[str, Any] = {
                "userInfo": {"username": user.name, "uid": self.identities.uid(user), "groups": groups}
            }
            review["metadata"] = {"creationTimestamp": to_seconds(self.clock())}
            return json_answer({**review, "status": status}, 201)
        attributes = (review.get("spec") or {}).get("resourceAttributes")
        path_attributes = (review.get("spec") or {}).get("nonResourceAttributes")
        if (attributes is None) == (path_attributes is None):
            detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            raise invalid("", "", [invalid_value("spec.resourceAttributes", attributes, detail)], group=info.group)
        review["status"] = {"allowed": may(user, _reviewed(attributes, path_attributes))}
        return json_answer(review, 201)


def _resource(info: RequestInfo) -> Resource:
    resource = RESOURCES.get(info.resource)
    if resource is None or info.version != "v1":
        raise no_such_resource()
    if info.namespace and not resource.namespaced and info.resource != "namespaces":
        raise no_such_resource()
    return resource


def _check_accept(request: web.BaseRequest) -> None:
    accepted = request.headers.get("Accept", "*/*")
    if not any(media in accepted for media in ("*/*", "application/*", "application/json")):
        available = f"{_MEDIA_TYPES}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
        message = f"406: Not Acceptable\n\nAvailable representations: {available}"
        raise StatusError(406, "NotAcceptable", message, details={})


def _dry_run(query: Mapping[str, str], kind: str) -> bool:
    value = query.get("dryRun", "")
    if value in ("", "All"):
        return bool(value)
    raise invalid(kind, "", [not_supported("dryRun", [value], ("All",))], group="meta.k8s.io")


def _no_kubelet(pod: Mapping[str, Any]) -> StatusError:
    node = pod["spec"]["nodeName"]
    return internal_error(f'Get "https://{node}:10250/": dial tcp: lookup {node}: no such host')


def _reviewed(attributes: Mapping[str, str] | None, path_attributes: Mapping[str, str] | None) -> RequestInfo:
    if attributes is None:
        path_attributes = path_attributes or {}
        return RequestInfo(verb=path_attributes.get("verb", ""), path=path_attributes.get("path", ""))
    return RequestInfo(
        verb=attributes.get("verb", ""),
        path="",
        group=attributes.get("group", ""),
        version="v1",
        resource=attributes.get("resource", ""),
        subresource=attributes.get("subresource", ""),
        namespace=attributes.get("namespace", ""),
        name=attributes.get("name", ""),
    )
