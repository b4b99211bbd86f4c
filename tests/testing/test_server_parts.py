"""Patches, selectors, quantities and the store, each by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kpo_multicluster.testing.apiserver import quantity
from kpo_multicluster.testing.apiserver.events import EventRecorder
from kpo_multicluster.testing.apiserver.identity import Identities
from kpo_multicluster.testing.apiserver.patch import apply_patch, json_patch, merge, strategic_merge
from kpo_multicluster.testing.apiserver.pod_defaults import apply_defaults, qos_class
from kpo_multicluster.testing.apiserver.request_info import RequestInfo, parse
from kpo_multicluster.testing.apiserver.resources import PODS
from kpo_multicluster.testing.apiserver.selectors import field_selector, label_selector
from kpo_multicluster.testing.apiserver.status import StatusError
from kpo_multicluster.testing.kubeconfig import merged
from kpo_multicluster.testing.requests import RequestLog
from kpo_multicluster.testing.scheduler import requests_of
from kpo_multicluster.testing.store import Store, TooOldError

# ---- patches: the examples of RFC 7386, appendix A, and of RFC 6902, appendix A ----


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merge(target, patch) == result


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["x"]}], {"foo": ["bar", ["x"]]}),
        ({"foo": ["a", "b"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a"]}),
        ({"foo": ["a", "b"]}, [{"op": "replace", "path": "/foo/0", "value": "c"}], {"foo": ["c", "b"]}),
        ({"foo": {"bar": 1}}, [{"op": "move", "from": "/foo/bar", "path": "/baz"}], {"foo": {}, "baz": 1}),
        ({"foo": ["a", "b", "c"]}, [{"op": "move", "from": "/foo/0", "path": "/foo/2"}], {"foo": ["b", "c", "a"]}),
        (
            {"a/b": 1, "m~n": 2},
            [{"op": "test", "path": "/a~1b", "value": 1}, {"op": "remove", "path": "/m~0n"}],
            {"a/b": 1},
        ),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": 1}, [{"op": "add", "path": "/b", "value": None}], {"a": 1, "b": None}),
        ({"": {"x": 1}}, [{"op": "remove", "path": "//x"}], {"": {}}),
    ],
)
def test_json_patch(target: Any, operations: Any, result: Any) -> None:
    before = repr(target)
    assert json_patch(target, operations) == result
    assert repr(target) == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/none"},
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "add", "path": "/list/9", "value": 1},
        {"op": "add", "path": "/list/x", "value": 1},
        {"op": "add", "path": "/text/x", "value": 1},
        {"op": "test", "path": "/text", "value": "other"},
        {"op": "add", "path": "no-slash", "value": 1},
        {"op": "add", "path": "/x"},
        {"op": "copy", "from": "/none", "path": "/x"},
        {"op": "twist", "path": "/text"},
        {"path": "/text"},
        "add",
    ],
)
def test_a_json_patch_that_does_not_apply(operation: Any) -> None:
    with pytest.raises(StatusError) as refused:
        json_patch({"list": [1], "text": "x"}, [{"op": "add", "path": "/y", "value": 1}, operation])
    assert refused.value.code == 422


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        (
            {"containers": [{"name": "a", "image": "x", "args": ["1"]}, {"name": "b"}]},
            {"containers": [{"name": "a", "image": "y"}, {"name": "c"}]},
            {"containers": [{"name": "a", "image": "y", "args": ["1"]}, {"name": "b"}, {"name": "c"}]},
        ),
        (
            {"volumes": [{"name": "a"}, {"name": "b"}]},
            {"volumes": [{"name": "a", "$patch": "delete"}]},
            {"volumes": [{"name": "b"}]},
        ),
        ({"env": [{"name": "A"}]}, {"env": [{"$patch": "replace"}, {"name": "B"}]}, {"env": [{"name": "B"}]}),
        ({"args": ["a"]}, {"args": ["b"]}, {"args": ["b"]}),
        ({"finalizers": ["a"]}, {"finalizers": ["a", "b"]}, {"finalizers": ["a", "b"]}),
        ({"finalizers": ["a", "b"]}, {"$deleteFromPrimitiveList/finalizers": ["a"]}, {"finalizers": ["b"]}),
        ({"spec": {"a": 1, "b": 2}}, {"spec": {"$patch": "replace", "c": 3}}, {"spec": {"c": 3}}),
        ({"spec": {"a": 1}}, {"spec": {"$patch": "delete"}}, {}),
        ({"labels": {"a": "1"}}, {"labels": {"a": None, "b": "2"}}, {"labels": {"b": "2"}}),
        ({"env": [{"name": "A"}]}, {"$setElementOrder/env": [{"name": "A"}]}, {"env": [{"name": "A"}]}),
        ({"taints": [{"key": "a"}]}, {"taints": [{"key": "b"}]}, {"taints": [{"key": "b"}]}),
    ],
)
def test_strategic_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert strategic_merge(target, patch) == result


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("text/plain", b"{}", 415),
        ("application/merge-patch+json", b"[]", 400),
        ("application/json-patch+json", b"{}", 400),
    ],
)
def test_a_patch_that_is_none(content_type: str, body: bytes, code: int) -> None:
    with pytest.raises(StatusError) as refused:
        apply_patch(content_type, {}, body)
    assert refused.value.code == code


def test_a_patch_must_leave_an_object() -> None:
    with pytest.raises(StatusError, match="the result is not an object"):
        apply_patch("application/json-patch+json", {}, b'[{"op": "replace", "path": "", "value": 5}]')


# ---- selectors ----

LABELS = {"metadata": {"labels": {"app": "web", "tier": "x", "n": "5"}}}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app!=web", False),
        ("other!=web", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db)", True),
        ("other notin (db)", True),
        ("app", True),
        ("!app", False),
        ("!other", True),
        ("app=web,tier in (x),!other", True),
        (" app = web , tier ", True),
        ("n>4", True),
        ("n<5", False),
        ("app>4", False),
        ("other=", False),
        ("in=web", False),
        ("app in (web,)", True),
    ],
)
def test_label_selectors(text: str, matches: bool) -> None:
    assert label_selector(text)(LABELS) is matches


@pytest.mark.parametrize(
    "text", ["=web", "app=web,", "app in web", "app in (web", "app=web tier=x", "a b", "(", "app in ()x"]
)
def test_a_label_selector_that_is_none(text: str) -> None:
    with pytest.raises(StatusError) as refused:
        label_selector(text)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("metadata.name=a", True),
        ("metadata.name==a,status.phase!=Running", True),
        ("spec.nodeName=", True),
        ("spec.hostNetwork=false", True),
        ("status.phase=Running", False),
    ],
)
def test_field_selectors(text: str, matches: bool) -> None:
    pod = {"metadata": {"name": "a"}, "spec": {}, "status": {"phase": "Pending"}}
    assert field_selector(text, PODS.selectable)(pod) is matches


# ---- quantities ----


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.5", "500m"),
        ("1", "1"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("100e3", "100k"),
        ("1e3", "1k"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000000000", "1G"),
        ("123456789", "123456789"),
        ("0.1m", "100u"),
        ("0", "0"),
        ("-2", "-2"),
        (".5", "500m"),
        ("2.", "2"),
        ("0.5Ki", "512"),
        ("1n", "1n"),
        ("0.1n", "1n"),
    ],
)
def test_quantities_come_back_in_one_form(text: str, canonical: str) -> None:
    assert quantity.canonical(text) == canonical


@pytest.mark.parametrize("text", ["", "1GB", "one", "1 Gi", "--1", "1e", "Ki"])
def test_a_quantity_that_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        quantity.parse(text)


def test_requests_count_containers_together_and_init_containers_one_by_one() -> None:
    def wants(cpu: str, **more: str) -> dict[str, Any]:
        return {**more, "resources": {"requests": {"cpu": cpu}}}

    spec = {"containers": [wants("1"), wants("500m")], "initContainers": [wants("2"), wants("1")]}
    assert requests_of(spec)["cpu"] == 2
    spec["initContainers"] = [wants("1", restartPolicy="Always"), wants("2")]
    assert requests_of(spec)["cpu"] == 3
    assert requests_of({**spec, "overhead": {"cpu": "250m"}})["cpu"] == quantity.parse("3250m")


def test_the_class_of_service() -> None:
    def pod(*resources: dict[str, Any]) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "c", "image": "x", "resources": entry} for entry in resources]}}

    full = {"limits": {"cpu": "1", "memory": "1Gi"}}
    for built, expected in (
        (pod({}), "BestEffort"),
        (pod({"limits": {"nvidia.com/gpu": "1"}}), "BestEffort"),
        (pod(full), "Guaranteed"),
        (pod(full, {}), "Burstable"),
        (pod({"requests": {"cpu": "1"}}), "Burstable"),
    ):
        apply_defaults(built)
        assert qos_class(built["spec"]) == expected


# ---- addresses ----


@pytest.mark.parametrize(
    ("method", "path", "verb", "resource", "subresource", "namespace", "name"),
    [
        ("GET", "/api/v1/pods", "list", "pods", "", "", ""),
        ("GET", "/api/v1/namespaces/a/pods", "list", "pods", "", "a", ""),
        ("GET", "/api/v1/namespaces/a", "get", "namespaces", "", "a", "a"),
        ("GET", "/api/v1/namespaces/a/status", "get", "namespaces", "status", "a", "a"),
        ("GET", "/api/v1/namespaces", "list", "namespaces", "", "", ""),
        ("GET", "/api/v1/namespaces/a/pods/b/log", "get", "pods", "log", "a", "b"),
        ("POST", "/api/v1/namespaces/a/pods", "create", "pods", "", "a", ""),
        ("PUT", "/api/v1/namespaces/a/pods/b", "update", "pods", "", "a", "b"),
        ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", "pods", "", "a", ""),
        ("GET", "/api/v1", "get", "", "", "", ""),
        ("GET", "/version", "get", "", "", "", ""),
    ],
)
def test_what_a_request_asks_for(
    method: str, path: str, verb: str, resource: str, subresource: str, namespace: str, name: str
) -> None:
    version = "v1" if resource else ""
    assert parse(method, path, {}) == RequestInfo(verb, path, "", version, resource, subresource, namespace, name)


# ---- the store ----


def thing(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n"}, **more}


def test_versions_rise_over_all_resources() -> None:
    store = Store()
    versions = [
        int(store.put(resource, thing(name))["metadata"]["resourceVersion"])
        for resource, name in (("a", "x"), ("b", "x"), ("a", "y"), ("b", "y"))
    ]
    assert versions == [1, 2, 3, 4]
    assert store.delete("a", "n", "x")["metadata"]["resourceVersion"] == "5"


def test_the_same_again_changes_nothing() -> None:
    store = Store()
    first = store.put("a", thing("x", value=1))
    assert store.put("a", thing("x", value=1)) is first
    assert store.version == 1


def test_what_was_stored_is_not_the_caller_s() -> None:
    store = Store()
    mine = thing("x", value=[1])
    store.put("a", mine)
    mine["value"].append(2)
    assert store.objects("a")[0]["value"] == [1]


def test_the_past_can_be_listed_while_it_is_held() -> None:
    store = Store(history=3)
    store.put("a", thing("x", value=1))
    store.put("a", thing("y"))
    store.put("a", thing("x", value=2))
    store.delete("a", "n", "y")
    assert [item["metadata"]["name"] for item in store.objects("a")] == ["x"]
    assert [item.get("value") for item in store.objects("a", at=2)] == [1, None]
    assert [item.get("value") for item in store.objects("a", at=1)] == [1]
    with pytest.raises(TooOldError, match=r"too old resource version: 0 \(1\)"):
        store.objects("a", at=0)


@pytest.mark.parametrize("history", [1, 2, 5, 7])
def test_exactly_as_much_history_is_held_as_was_asked_for(history: int) -> None:
    store = Store(history=history)
    for number in range(40):
        store.put("a", thing("x", value=number))
        oldest = max(0, store.version - history)
        assert [change.version for change in store.changes("a", oldest)] == list(range(oldest + 1, store.version + 1))
        if oldest:
            with pytest.raises(TooOldError):
                store.changes("a", oldest - 1)


async def test_every_change_is_told_to_those_who_wait() -> None:
    store = Store()
    with store.subscribed("a") as first, store.subscribed("a") as second, store.subscribed("b") as other:
        store.put("a", thing("x"))
        await asyncio.wait_for(asyncio.gather(first.changed.wait(), second.changed.wait()), 60)
        assert not other.changed.is_set()


# ---- what must not pile up ----


def test_events_are_kept_for_an_hour() -> None:
    now = [0.0]
    store = Store()
    recorder = EventRecorder(store, lambda: now[0], lambda: "uid")
    pod = {"metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "spec": {}}
    for at, message in ((0.0, "first"), (3599.0, "first"), (3599.0, "second"), (3600.0, "first"), (3600.0, "first")):
        now[0] = at
        recorder.from_kubelet(pod, "Normal", "Reason", message)
    kept = [(event["message"], event["count"]) for event in store.objects("events")]
    assert sorted(kept) == [("first", 2), ("second", 1)]


def test_requests_beyond_the_limit_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpo_multicluster.testing.requests._LIMIT", 3)
    log = RequestLog(lambda: 0.0)
    for number in range(5):
        log.begin("GET", f"/{number}", parse("GET", f"/{number}", {}), "")
    assert [record.target for record in log.records()] == ["/2", "/3", "/4"]
    log.note(0, status=200)


def test_tokens_that_ended_are_forgotten() -> None:
    now = [0.0]
    identities = Identities([], clock=lambda: now[0])
    for _ in range(10):
        identities.issue_to_service_account("n", "default", lifetime_seconds=1)
        now[0] += 1
    assert len(identities._tokens) == 3  # admin's, the account's own, and the last


# ---- kubeconfigs ----


def test_of_kubeconfigs_with_the_same_names_the_first_counts() -> None:
    def part(server: str) -> dict[str, Any]:
        return {"current-context": server, "clusters": [{"name": "c", "cluster": {"server": server}}]}

    joined = merged([part("one"), part("two")])
    assert joined["current-context"] == "one"
    assert joined["clusters"] == [{"name": "c", "cluster": {"server": "one"}}]
