"""An embedded cluster that asks someone else whose a token is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.registry import resolve
from kpo_multicluster.cluster import token
from kpo_multicluster.errors import CredentialError, ForbiddenError
from kpo_multicluster.testing import EmbeddedCluster, Rule, User
from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused

REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
READ = (Rule(("get", "list"), ("pods",), ("default",)),)
WRITE = (Rule(("create",), ("pods",), ("default",)),)


class Cloud:
    """Knows some tokens, by their last word."""

    def __init__(self, **known: Identity) -> None:
        self.known = known

    def identify(self, token: str) -> Identity:
        try:
            return self.known[token.removeprefix("the-token-")]
        except KeyError:
            raise TokenRefused("it was not issued here") from None


@pytest.fixture
def cloud() -> Cloud:
    return Cloud(
        reader=Identity("reader@cloud"),
        member=Identity("member@cloud", ("writers", "others")),
        both=Identity("reader@cloud", ("writers",)),
        master=Identity("master@cloud", ("system:masters",)),
        impostor=Identity("admin"),
    )


@pytest.fixture
def cluster(cloud: Cloud) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(nodes=()) as cluster:
        cluster.add_user(User("reader@cloud", rules=READ))
        cluster.bind_group("writers", WRITE)
        cluster.accept_tokens_of(cloud)
        yield cluster


async def ask(cluster: EmbeddedCluster, shown: str, verb: str) -> Any:
    """Sends one request with a token: a SelfSubjectReview, or one about pods."""
    ref = token(
        cluster.server, token=shown if shown == cluster.token() else f"the-token-{shown}", ca_data=cluster.ca_pem
    )
    async with ApiClient(resolve(ref)) as client:
        if verb == "who":
            return (await client.request("POST", REVIEW, body={}))["status"]["userInfo"]
        path = "/api/v1/namespaces/default/pods"
        if verb == "list":
            return await client.request("GET", path)
        body = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
        return await client.request("POST", path, body=body, params={"dryRun": "All"})


@pytest.mark.parametrize(
    ("shown", "allowed"),
    [
        ("reader", {"list"}),
        ("member", {"create"}),
        ("both", {"list", "create"}),
        ("master", {"list", "create"}),
        ("impostor", set()),
    ],
)
async def test_what_a_stranger_may_do(cluster: EmbeddedCluster, shown: str, allowed: set[str]) -> None:
    for verb in ("list", "create"):
        if verb in allowed:
            await ask(cluster, shown, verb)
            continue
        with pytest.raises(ForbiddenError, match=f'User "{"admin" if shown == "impostor" else shown}["@]'):
            await ask(cluster, shown, verb)


async def test_who_a_stranger_is(cluster: EmbeddedCluster) -> None:
    user = await ask(cluster, "member", "who")
    assert user["username"] == "member@cloud"
    assert user["groups"] == ["writers", "others", "system:authenticated"]
    assert "member@cloud" in {record.user for record in cluster.requests.records()}


async def test_a_token_that_no_one_vouches_for(cluster: EmbeddedCluster, cloud: Cloud) -> None:
    with pytest.raises(CredentialError):
        await ask(cluster, "unknown", "list")
    await ask(cluster, "reader", "list")
    del cloud.known["reader"]
    with pytest.raises(CredentialError):
        await ask(cluster, "reader", "list")
    assert [record.status for record in cluster.requests.records()] == [401, 200, 401]


async def test_its_own_users_are_still_known(cluster: EmbeddedCluster) -> None:
    assert (await ask(cluster, cluster.token(), "who"))["username"] == "admin"


async def test_several_clouds(cluster: EmbeddedCluster) -> None:
    cluster.accept_tokens_of(Cloud(other=Identity("other@cloud", ("writers",))))
    await ask(cluster, "other", "create")
    await ask(cluster, "reader", "list")
