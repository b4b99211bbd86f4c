"""Service accounts: the token a pod has, and what it may do with it."""

from __future__ import annotations

import json

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import token
from kpo_multicluster.errors import ForbiddenError

from .clusters import Cluster
from .conftest import Create
from .pods import PYTHON_IMAGE, Pod, container, manifest

DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"
ASK = f"""
import json, os, ssl, urllib.error, urllib.request
trusted = ssl.create_default_context(cafile="{DIRECTORY}/ca.crt")
token, namespace = (open("{DIRECTORY}/" + name).read() for name in ("token", "namespace"))
server = "https://" + os.environ["KUBERNETES_SERVICE_HOST"] + ":" + os.environ["KUBERNETES_SERVICE_PORT"]
def ask(what):
    request = urllib.request.Request(server + what, headers={{"Authorization": "Bearer " + token}})
    try:
        with urllib.request.urlopen(request, context=trusted) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)
asked = ("/pods?labelSelector=app=asks", "/secrets")
print(json.dumps([ask("/api/v1/namespaces/" + namespace + what) for what in asked]))
"""


async def test_a_pod_asks_its_server_as_its_service_account(cluster: Cluster, create: Create, namespace: str) -> None:
    account = cluster.make_account(namespace, [{"verbs": ["list"], "resources": ["pods"]}], name="reader")
    assert account.user == f"system:serviceaccount:{namespace}:reader"
    base = {**container(), "image": PYTHON_IMAGE, "command": ["python", "-c", ASK]}
    pod = await create(manifest(base, labels={"app": "asks"}, serviceAccountName="reader"))
    await pod.over()
    pods, secrets = json.loads(await pod.log())
    assert [each["metadata"]["name"] for each in pods["items"]] == [pod.name]
    assert (secrets["code"], secrets["reason"]) == (403, "Forbidden")
    assert secrets["message"] == (
        f'secrets is forbidden: User "{account.user}" cannot list resource "secrets" in API group "" '
        f'in the namespace "{namespace}"'
    )


@pytest.mark.pod(container(f"cd {DIRECTORY}; ls; cat namespace; (echo x > token) 2>/dev/null || echo ' read-only'"))
async def test_what_is_mounted(pod: Pod) -> None:
    (volume,) = pod.seen["spec"]["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    (mount,) = pod.seen["spec"]["containers"][0]["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": DIRECTORY, "readOnly": True}
    await pod.ended()
    assert await pod.log() == f"ca.crt\nnamespace\ntoken\n{pod.namespace} read-only\n"


@pytest.mark.pod(container(f"ls {DIRECTORY} 2>/dev/null || echo none"), automountServiceAccountToken=False)
async def test_what_is_not_to_be_mounted(pod: Pod) -> None:
    assert "volumes" not in pod.seen["spec"]
    await pod.ended()
    assert await pod.log() == "none\n"


@pytest.mark.pod(container(f"cat {DIRECTORY}/token"))
async def test_a_pod_s_token_is_good_for_the_product_s_own_client(cluster: Cluster, pod: Pod, namespace: str) -> None:
    await pod.ended()
    given = (await pod.log()).strip()
    access = cluster.access
    ref = token(access.server, token=given, ca_data=access.ca_pem)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    async with ApiClient(resolve(ref)) as api:
        told = await api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
    user = told["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{namespace}:default"
    assert {"system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"} <= set(
        user["groups"]
    )


async def test_a_service_account_that_is_not_there(create: Create) -> None:
    body = manifest(container(), serviceAccountName="nobody")
    with pytest.raises(ForbiddenError) as refused:
        await create(body)
    name = body["metadata"]["name"]
    assert refused.value.detail.startswith(f'pods "{name}" is forbidden: error looking up service account ')
    assert refused.value.detail.endswith('/nobody: serviceaccount "nobody" not found')


async def test_what_one_may_do_can_be_asked(cluster: Cluster, namespace: str) -> None:
    account = cluster.make_account(namespace, [{"verbs": ["list"], "resources": ["pods"]}])
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    allowed = {}
    async with ApiClient(account.access) as api:
        for verb in ("list", "create"):
            asked = {"resourceAttributes": {"namespace": namespace, "verb": verb, "resource": "pods"}}
            path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            answer = await api.request("POST", path, body={**kind, "spec": asked})
            allowed[verb] = answer["status"]["allowed"]
    assert allowed == {"list": True, "create": False}
