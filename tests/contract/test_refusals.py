"""What a server refuses: with which code, reason, text and fields."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import (
    BadRequestError,
    ConflictError,
    CredentialError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)

from .clusters import Cluster
from .conftest import Create
from .pods import NOBODY, Object, container, manifest

MERGE = "application/merge-patch+json"


@pytest.fixture
def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("GET", "pods/missing", 'pods "missing" not found'),
        ("DELETE", "pods/missing", 'pods "missing" not found'),
        ("GET", "pods/missing/log", 'pods "missing" not found'),
        ("GET", "secrets/missing", 'secrets "missing" not found'),
    ],
)
async def test_what_is_not_there(api: ApiClient, namespace: str, method: str, path: str, text: str) -> None:
    with pytest.raises(NotFoundError) as refused:
        await api.request(method, f"/api/v1/namespaces/{namespace}/{path}")
    assert (refused.value.status, refused.value.reason, refused.value.detail) == (404, "NotFound", text)


async def test_a_command_in_a_pod_that_is_not_there(api: ApiClient, pods: str) -> None:
    with pytest.raises(NotFoundError, match='pods "missing" not found'):
        await api.exec(f"{pods}/missing/exec", ["true"], container="base")


async def test_a_namespace_that_is_not_there(api: ApiClient) -> None:
    with pytest.raises(NotFoundError) as refused:
        await api.request("POST", "/api/v1/namespaces/kpo-no-such-namespace/pods", body=manifest(container()))
    assert refused.value.detail == 'namespaces "kpo-no-such-namespace" not found'
    # Nothing is in it, which is no reason to refuse.
    answer = await api.request("GET", "/api/v1/namespaces/kpo-no-such-namespace/pods")
    assert answer["items"] == []


async def test_a_name_that_is_taken(api: ApiClient, create: Create, pods: str) -> None:
    body = manifest(container(), **NOBODY)
    pod = await create(body)
    with pytest.raises(ConflictError) as refused:
        await api.request("POST", pods, body=body)
    assert (refused.value.status, refused.value.reason) == (409, "AlreadyExists")
    assert refused.value.detail == f'pods "{pod.name}" already exists'


async def test_a_change_of_what_has_changed_since(api: ApiClient, create: Create) -> None:
    pod = await create(manifest(container(), **NOBODY))
    await api.request("PATCH", pod.path, body={"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)
    with pytest.raises(ConflictError) as refused:
        await api.request("PUT", pod.path, body=pod.seen)
    assert refused.value.reason == "Conflict"
    assert refused.value.detail == (
        f'Operation cannot be fulfilled on pods "{pod.name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


INVALID: list[tuple[str, Object, dict[str, str]]] = [
    (
        "no-containers",
        {"metadata": {"name": "x"}, "spec": {"containers": []}},
        {"spec.containers": "Required value"},
    ),
    (
        "bad-name",
        manifest(container(), name="Not_OK"),
        {"metadata.name": "a lowercase RFC 1123 subdomain must consist of"},
    ),
    (
        "unknown-volume",
        manifest(container(volumeMounts=[{"name": "nowhere", "mountPath": "/x"}])),
        {"spec.containers[0].volumeMounts[0].name": 'Not found: "nowhere"'},
    ),
    (
        "two-faults",
        manifest(container(name="Bad_Name", imagePullPolicy="Sometimes")),
        {"spec.containers[0].name": "a lowercase RFC 1123 label", "spec.containers[0].imagePullPolicy": "Sometimes"},
    ),
    (
        "bad-label",
        manifest(container(), labels={"a": "not ok!"}),
        {"metadata.labels": "a valid label must be an empty string or consist of"},
    ),
    (
        "restart-policy",
        manifest(container(), restartPolicy="Sometimes"),
        {"spec.restartPolicy": 'supported values: "Always", "OnFailure", "Never"'},
    ),
    (
        "request-over-limit",
        manifest(container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
        {"spec.containers[0].resources.requests": "must be less than or equal to cpu limit of 1"},
    ),
]


@pytest.mark.parametrize(("body", "causes"), [case[1:] for case in INVALID], ids=[case[0] for case in INVALID])
async def test_a_manifest_with_faults_is_refused_by_field(
    api: ApiClient, pods: str, body: Object, causes: dict[str, str]
) -> None:
    with pytest.raises(InvalidError) as refused:
        await api.request("POST", pods, body=body)
    assert (refused.value.status, refused.value.reason) == (422, "Invalid")
    told = {each["field"]: each["message"] for each in refused.value.body["details"]["causes"]}
    assert told.keys() == causes.keys()
    for name, part in causes.items():
        assert part in told[name]
        assert name in refused.value.detail


async def test_a_running_pod_s_command_cannot_be_changed(api: ApiClient, create: Create) -> None:
    pod = await create(manifest(container(), **NOBODY))
    body = [{"op": "replace", "path": "/spec/containers/0/command", "value": ["other"]}]
    with pytest.raises(InvalidError) as refused:
        await api.request("PATCH", pod.path, body=body, content_type="application/json-patch+json")
    assert "spec: Forbidden: pod updates may not change fields other than" in refused.value.detail


async def test_a_body_that_is_no_pod(api: ApiClient, pods: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        await api.request("POST", pods, body={"metadata": {"name": "x"}, "spec": {"containers": "none"}})
    assert "json: cannot unmarshal string into Go struct field PodSpec.spec.containers" in refused.value.detail


RULES = [{"verbs": ["get"], "resources": ["pods"]}]
FORBIDDEN = [
    ("GET", "", "list", "pods"),
    ("POST", "", "create", "pods"),
    ("DELETE", "/some", "delete", "pods"),
    ("PATCH", "/some", "patch", "pods"),
    ("GET", "/some/log", "get", "pods/log"),
]


@pytest.mark.parametrize(
    ("method", "path", "verb", "resource"), FORBIDDEN, ids=[case[2] + case[1] for case in FORBIDDEN]
)
async def test_a_role_that_does_not_allow_it(
    cluster: Cluster, namespace: str, pods: str, method: str, path: str, verb: str, resource: str
) -> None:
    account = cluster.make_account(namespace, RULES)
    body = None if method in ("GET", "DELETE") else manifest(container())
    kind = MERGE if method == "PATCH" else "application/json"
    async with ApiClient(account.access) as api:
        with pytest.raises(NotFoundError):
            await api.request("GET", f"{pods}/some")
        with pytest.raises(ForbiddenError) as refused:
            await api.request(method, f"{pods}{path}", body=body, content_type=kind)
    named = '"some" ' if path else ""
    assert (refused.value.status, refused.value.reason) == (403, "Forbidden")
    assert refused.value.detail == (
        f'pods {named}is forbidden: User "{account.user}" cannot {verb} resource "{resource}" '
        f'in API group "" in the namespace "{namespace}"'
    )


async def test_a_role_that_does_not_allow_watches_and_commands(cluster: Cluster, namespace: str, pods: str) -> None:
    account = cluster.make_account(namespace, [{"verbs": ["get", "list"], "resources": ["pods"]}])
    async with ApiClient(account.access) as api:
        version = (await api.request("GET", pods))["metadata"]["resourceVersion"]
        with pytest.raises(ForbiddenError, match='cannot watch resource "pods"'):
            await anext(api.watch(pods, resource_version=version))
        with pytest.raises(ForbiddenError, match=r'cannot (get|create) resource "pods/exec"'):
            await api.exec(f"{pods}/some/exec", ["true"], container="base")


async def test_rights_end_at_the_namespace(cluster: Cluster, namespace: str) -> None:
    account = cluster.make_account(namespace, [{"verbs": ["list"], "resources": ["pods"]}])
    async with ApiClient(account.access) as api:
        with pytest.raises(ForbiddenError, match='in the namespace "default"'):
            await api.request("GET", "/api/v1/namespaces/default/pods")
        with pytest.raises(ForbiddenError, match="at the cluster scope"):
            await api.request("GET", "/api/v1/pods")
        with pytest.raises(ForbiddenError, match='namespaces "default" is forbidden'):
            await api.request("GET", "/api/v1/namespaces/default")


async def test_a_token_that_is_none(cluster: Cluster) -> None:
    access = cluster.access
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": access.server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "x", "user": {"token": f"no-such-token-{uuid.uuid4().hex}"}}],
    }
    async with ApiClient(resolve(kubeconfig(document=document))) as api:
        with pytest.raises(CredentialError, match="refused the token"):
            await api.request("GET", "/api/v1/namespaces/default/pods")


async def test_a_dry_run_says_what_would_become_of_it(api: ApiClient, pods: str) -> None:
    body = manifest(container())
    answer = await api.request("POST", pods, params={"dryRun": "All"}, body=body)
    assert answer["metadata"]["uid"]
    assert answer["spec"]["containers"][0]["terminationMessagePath"] == "/dev/termination-log"
    with pytest.raises(NotFoundError):
        await api.request("GET", f"{pods}/{body['metadata']['name']}")
    with pytest.raises(InvalidError):
        await api.request("POST", pods, params={"dryRun": "All"}, body=manifest())


async def test_a_name_that_the_server_makes_up(create: Create) -> None:
    names = []
    for _ in range(2):
        body = manifest(container(), **NOBODY)
        body["metadata"] = {"generateName": "made-up-"}
        pod = await create(body)
        names.append(pod.name)
        assert pod.seen["metadata"]["generateName"] == "made-up-"
    assert all(len(name) == len("made-up-") + 5 for name in names)
    assert len(set(names)) == 2


PATCHES: list[tuple[str, Any, dict[str, str]]] = [
    (MERGE, {"metadata": {"labels": {"new": "1", "old": None}}}, {"kept": "1", "new": "1"}),
    (
        "application/strategic-merge-patch+json",
        {"metadata": {"labels": {"new": "1", "old": None}}},
        {"kept": "1", "new": "1"},
    ),
    (
        "application/json-patch+json",
        [{"op": "add", "path": "/metadata/labels/new", "value": "1"}, {"op": "remove", "path": "/metadata/labels/old"}],
        {"kept": "1", "new": "1"},
    ),
]


@pytest.mark.parametrize(("kind", "body", "labels"), PATCHES, ids=["merge", "strategic", "json"])
async def test_patches(api: ApiClient, create: Create, kind: str, body: Any, labels: dict[str, str]) -> None:
    pod = await create(manifest(container(), labels={"kept": "1", "old": "1"}, **NOBODY))
    patched = await api.request("PATCH", pod.path, body=body, content_type=kind)
    assert patched["metadata"]["labels"] == labels
    assert int(patched["metadata"]["resourceVersion"]) > int(pod.seen["metadata"]["resourceVersion"])
    # A label is no part of the spec.
    assert patched["metadata"]["generation"] == 1


async def test_a_strategic_patch_merges_lists_by_key(api: ApiClient, create: Create) -> None:
    pod = await create(manifest(container(), container(name="side"), **NOBODY))
    body = {"spec": {"containers": [{"name": "side", "image": "busybox:1"}]}}
    kind = "application/strategic-merge-patch+json"
    patched = await api.request("PATCH", pod.path, body=body, content_type=kind)
    images = {each["name"]: each["image"] for each in patched["spec"]["containers"]}
    assert images == {"base": "alpine:3.22", "side": "busybox:1"}
    assert patched["metadata"]["generation"] == 2


async def test_a_namespace_that_ends_takes_no_pods(cluster: Cluster, api: ApiClient) -> None:
    name = cluster.make_namespace()
    held = manifest(container(), **NOBODY)
    # It keeps the namespace from being gone.
    held["metadata"]["finalizers"] = ["kpo-multicluster.test/hold"]
    await api.request("POST", f"/api/v1/namespaces/{name}/pods", body=held)
    try:
        ending = await api.request("DELETE", f"/api/v1/namespaces/{name}")
        assert ending["status"]["phase"] == "Terminating"
        with pytest.raises(ForbiddenError) as refused:
            await api.request("POST", f"/api/v1/namespaces/{name}/pods", body=manifest(container()))
    finally:
        path = f"/api/v1/namespaces/{name}/pods/{held['metadata']['name']}"
        await api.request("PATCH", path, body={"metadata": {"finalizers": None}}, content_type=MERGE)
    expected = f"is forbidden: unable to create new content in namespace {name} because it is being terminated"
    assert expected in refused.value.detail
