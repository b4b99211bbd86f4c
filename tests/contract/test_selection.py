"""Lists: what label selectors, field selectors and pages give."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.errors import BadRequestError

from .conftest import Create
from .pods import NOBODY, Pod, container, manifest


@pytest.fixture
async def three(create: Create) -> list[Pod]:
    """Pods that differ in labels."""
    labels = ({"app": "a", "tier": "front"}, {"app": "b"}, {"tier": "back"})
    case = {"case": uuid.uuid4().hex}
    return [await create(manifest(container(), labels={**case, **each}, **NOBODY)) for each in labels]


async def names(api: ApiClient, pods: list[Pod], **params: Any) -> set[int]:
    """Which of the pods a list gives, by number."""
    answer = await api.request("GET", pods[0].collection, params=params)
    found = {item["metadata"]["name"] for item in answer["items"]}
    return {number for number, pod in enumerate(pods) if pod.name in found}


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app=a", {0}),
        ("app==a", {0}),
        ("app!=a", {1, 2}),
        ("app in (a,b)", {0, 1}),
        ("app notin (a)", {1, 2}),
        ("app", {0, 1}),
        ("!app", {2}),
        ("app=a,tier=front", {0}),
        ("app=a,tier=back", set()),
    ],
)
async def test_labels_select(api: ApiClient, three: list[Pod], selector: str, found: set[int]) -> None:
    case = three[0].seen["metadata"]["labels"]["case"]
    assert await names(api, three, labelSelector=f"case={case},{selector}") == found


async def test_fields_select(api: ApiClient, three: list[Pod]) -> None:
    assert await names(api, three, fieldSelector=f"metadata.name={three[1].name}") == {1}
    assert await names(api, three, fieldSelector=f"metadata.name!={three[1].name}") == {0, 2}
    assert await names(api, three, fieldSelector="status.phase=Pending,spec.nodeName=") == {0, 1, 2}
    assert await names(api, three, fieldSelector="status.phase!=Pending") == set()
    assert await names(api, three, fieldSelector="spec.schedulerName=nobody", labelSelector="app=b") >= {1}


async def test_a_field_that_cannot_be_selected_by(api: ApiClient, namespace: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        await api.request("GET", f"/api/v1/namespaces/{namespace}/pods", params={"fieldSelector": "spec.image=x"})
    assert "field label not supported: spec.image" in refused.value.detail


async def test_a_selector_that_is_none(api: ApiClient, namespace: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        await api.request("GET", f"/api/v1/namespaces/{namespace}/pods", params={"labelSelector": "app in a"})
    assert "unable to parse requirement: found 'a' expected: '('" in refused.value.detail


async def test_pages(api: ApiClient, three: list[Pod]) -> None:
    case = three[0].seen["metadata"]["labels"]["case"]
    seen: list[str] = []
    params: dict[str, Any] = {"labelSelector": f"case={case}", "limit": 2}
    while True:
        page = await api.request("GET", three[0].collection, params=params)
        seen += [item["metadata"]["name"] for item in page["items"]]
        if not page["metadata"].get("continue"):
            break
        params["continue"] = page["metadata"]["continue"]
    assert sorted(seen) == sorted(pod.name for pod in three)


async def test_a_list_and_its_items(api: ApiClient, three: list[Pod]) -> None:
    answer = await api.request("GET", three[0].collection, params={"labelSelector": "app=a"})
    assert (answer["kind"], answer["apiVersion"]) == ("PodList", "v1")
    assert int(answer["metadata"]["resourceVersion"]) >= int(three[-1].seen["metadata"]["resourceVersion"])
    assert all("kind" not in item for item in answer["items"])
