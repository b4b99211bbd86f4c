"""Who may do what: rules, tokens that end, client certificates, reviews."""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Iterator

import aiohttp
import pytest

from kpo_multicluster.testing.apiserver.identity import Identities, Rule, User
from kpo_multicluster.testing.apiserver.status import StatusError

from .server_side import PODS, Rig, broken_connections, client_of, pod, rig

pytestmark = broken_connections
READER = User(
    "reader", rules=(Rule(("get", "list"), ("pods",), ("default",)), Rule(("get",), ("pods/log",), ("default",)))
)
ONE = User("one", rules=(Rule(("*",), ("*",), names=("only",)),))


@pytest.fixture
def made() -> Iterator[Rig]:
    with rig(users=[READER, ONE], namespaces=("default", "other"), nodes=()) as made:
        yield made


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", PODS, True),
        ("GET", f"{PODS}/a", True),
        ("GET", f"{PODS}/a/log", True),
        ("GET", f"{PODS}?watch=true", False),
        ("GET", f"{PODS}/a/exec?command=x&stdout=1", False),
        ("GET", "/api/v1/pods", False),
        ("GET", "/api/v1/namespaces/other/pods", False),
        ("DELETE", f"{PODS}/a", False),
        ("DELETE", PODS, False),
        ("POST", PODS, False),
        ("GET", "/api/v1/nodes", False),
        ("GET", "/version", True),
        ("GET", "/apis", True),
        ("GET", "/metrics", False),
    ],
)
async def test_rules_allow_what_they_say(made: Rig, method: str, path: str, allowed: bool) -> None:
    async with client_of(made.cluster, made.cluster.token("reader")) as client:
        status, _ = await client.call(method, path, pod("a") if method == "POST" else None)
    assert (status != 403) is allowed


async def test_a_rule_may_name_objects(made: Rig) -> None:
    async with client_of(made.cluster, made.cluster.token("one")) as client:
        assert (await client.call("GET", f"{PODS}/only"))[0] == 404
        assert (await client.call("GET", f"{PODS}/other"))[0] == 403
        assert (await client.call("GET", PODS))[0] == 403


async def test_a_token_ends_with_its_lifetime() -> None:
    now = [1000.0]
    identities = Identities([READER], clock=lambda: now[0])
    token = identities.issue("reader", lifetime_seconds=60)
    now[0] = 1059.9
    user = identities.authenticate(f"Bearer {token}")
    assert user is not None
    assert user.name == "reader"
    now[0] = 1060.0
    with pytest.raises(StatusError) as refused:
        identities.authenticate(f"Bearer {token}")
    assert refused.value.code == 401
    assert identities.authenticate(f"bearer {identities.user('reader').token}") is not None


async def test_a_user_added_later_has_a_token(made: Rig) -> None:
    user = made.cluster.add_user(User("system:serviceaccount:default:runner", rules=()))
    async with client_of(made.cluster, user.token) as client:
        status, body = await client.call("GET", PODS)
    assert status == 403
    assert 'User "system:serviceaccount:default:runner" cannot list' in body["message"]


def test_no_token_is_shown() -> None:
    user = User("u", token="very-secret")
    identities = Identities([user])
    assert "very-secret" not in repr(user) + repr(identities)


async def test_a_client_certificate_identifies_too(made: Rig) -> None:
    config = made.cluster.kubeconfig(user="reader", certificate=True)
    credential = config["users"][0]["user"]
    assert set(credential) == {"client-certificate-data", "client-key-data"}
    status, message = await asked_with_certificate(made, config)
    assert (status, message) == (403, 'User "reader" cannot list resource "nodes"')


async def asked_with_certificate(made: Rig, config: dict[str, object]) -> tuple[int, str]:
    credential = config["users"][0]["user"]  # type: ignore[index]
    context = ssl.create_default_context(cadata=made.cluster.ca_pem)
    with tempfile.NamedTemporaryFile() as file:
        for key in ("client-key-data", "client-certificate-data"):
            file.write(base64.b64decode(credential[key]))
        file.flush()
        context.load_cert_chain(file.name)
    async with client_of(made.cluster, "") as client:
        headers = {"Authorization": ""}
        async with client.session.get("/api/v1/nodes", headers=headers, ssl=context) as answer:
            body = await answer.json()
            return answer.status, body["message"].split(": ", 1)[1].split(" in API", 1)[0]


async def test_a_certificate_of_another_cluster_is_refused(made: Rig) -> None:
    with rig(nodes=()) as other:
        config = other.cluster.kubeconfig(certificate=True)
        with pytest.raises(aiohttp.ClientError):
            await asked_with_certificate(made, config)


async def test_a_server_of_another_cluster_is_not_trusted(made: Rig) -> None:
    with rig(nodes=()) as other:
        context = ssl.create_default_context(cadata=other.cluster.ca_pem)
        async with client_of(made.cluster) as client:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await client.session.get(PODS, ssl=context)


@pytest.mark.parametrize(
    ("attributes", "allowed"),
    [
        ({"verb": "list", "resource": "pods", "namespace": "default"}, True),
        ({"verb": "get", "resource": "pods", "subresource": "log", "namespace": "default"}, True),
        ({"verb": "get", "resource": "pods", "subresource": "exec", "namespace": "default"}, False),
        ({"verb": "list", "resource": "pods"}, False),
    ],
)
async def test_a_user_can_ask_what_it_may_do(made: Rig, attributes: dict[str, str], allowed: bool) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    async with client_of(made.cluster, made.cluster.token("reader")) as client:
        status, body = await client.call("POST", path, {"spec": {"resourceAttributes": attributes}})
    assert (status, body["status"]) == (201, {"allowed": allowed})


async def test_a_user_can_ask_about_addresses(made: Rig) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    async with client_of(made.cluster, made.cluster.token("reader")) as client:
        spec = {"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}
        _, body = await client.call("POST", path, {"spec": spec})
        assert body["status"] == {"allowed": False}
        status, _ = await client.call("GET", path)
        assert status in (403, 405)
