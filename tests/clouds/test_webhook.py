"""The token webhook as an API server sees it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused
from kpo_multicluster.testing.clouds.webhook import TokenReviewer, TokenWebhook


class Cloud:
    """Knows one token."""

    def identify(self, token: str) -> Identity:
        if token != "good":
            raise TokenRefused("it was not issued here")
        return Identity("someone@cloud", ("one", "two"))


@pytest.fixture
def reviewer() -> TokenReviewer:
    return TokenReviewer(Cloud(), clock=lambda: 1000.0)


@pytest.fixture
def webhook(reviewer: TokenReviewer) -> Iterator[TokenWebhook]:
    with TokenWebhook() as webhook:
        webhook.serve("gpu", reviewer)
        yield webhook


def review(token: Any = "good", version: str = "authentication.k8s.io/v1", kind: str = "TokenReview") -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "spec": {"token": token, "audiences": ["https://kubernetes"]}}


async def send(webhook: TokenWebhook, body: Any, *, method: str = "POST", path: str | None = None) -> tuple[int, str]:
    import base64

    cluster = webhook.kubeconfig("gpu")["clusters"][0]["cluster"]
    url = cluster["server"] if path is None else cluster["server"].replace("/gpu", path)
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    text = body if isinstance(body, str) else json.dumps(body)
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=text, ssl=context) as response,
    ):
        return response.status, await response.text()


@pytest.mark.parametrize("version", ["authentication.k8s.io/v1", "authentication.k8s.io/v1beta1"])
async def test_a_good_token(webhook: TokenWebhook, version: str) -> None:
    status, text = await send(webhook, review(version=version))
    user = {"username": "someone@cloud", "uid": "cloud:someone@cloud", "groups": ["one", "two"]}
    answer = {"apiVersion": version, "kind": "TokenReview", "status": {"authenticated": True, "user": user}}
    assert (status, json.loads(text)) == (200, answer)


async def test_a_token_of_no_one(webhook: TokenWebhook, reviewer: TokenReviewer) -> None:
    status, text = await send(webhook, review("bad"))
    assert status == 200
    assert json.loads(text)["status"] == {"authenticated": False, "error": "it was not issued here"}
    (asked,) = reviewer.reviews
    assert (asked.identity, asked.reason, asked.at) == (None, "it was not issued here", 1000.0)
    assert "bad" not in repr(asked)


async def test_a_token_that_is_revoked(webhook: TokenWebhook, reviewer: TokenReviewer) -> None:
    assert json.loads((await send(webhook, review()))[1])["status"]["authenticated"]
    reviewer.revoke("good")
    assert json.loads((await send(webhook, review()))[1])["status"]["error"] == "it was revoked"
    assert [asked.reason for asked in reviewer.reviews] == ["", "it was revoked"]
    assert len({asked.fingerprint for asked in reviewer.reviews}) == 1


def test_all_that_were_shown_are_revoked(reviewer: TokenReviewer) -> None:
    assert reviewer.identify("good").name == "someone@cloud"
    reviewer.revoke_all()
    with pytest.raises(TokenRefused, match="revoked"):
        reviewer.identify("good")


@pytest.mark.parametrize(
    ("body", "method", "path", "status"),
    [
        (review(), "GET", None, 405),
        (review(), "POST", "/other", 404),
        (review(kind="SubjectAccessReview"), "POST", None, 400),
        (review(version="v1"), "POST", None, 400),
        (review(token=7), "POST", None, 400),
        ({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}, "POST", None, 400),
        ("no JSON", "POST", None, 400),
        ("[]", "POST", None, 400),
    ],
)
async def test_what_is_no_question(
    webhook: TokenWebhook, reviewer: TokenReviewer, body: Any, method: str, path: str | None, status: int
) -> None:
    assert (await send(webhook, body, method=method, path=path))[0] == status
    assert reviewer.reviews == ()


async def test_a_webhook_in_trouble(webhook: TokenWebhook) -> None:
    with webhook.faults.refuse("POST /gpu", 500, "", "out of order"):
        assert await send(webhook, review()) == (500, "out of order\n")
    assert (await send(webhook, review()))[0] == 200


def test_a_cluster_that_it_does_not_answer_for(webhook: TokenWebhook) -> None:
    with pytest.raises(KeyError):
        webhook.kubeconfig("other")
