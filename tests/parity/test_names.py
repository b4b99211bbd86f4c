"""Names and values that DAGs import, and objects that they hand over, against the installed upstream provider's."""

from __future__ import annotations

import importlib
import inspect
import warnings
from enum import Enum
from typing import Any

import pytest

from tests.operators.test_mirrors import MIRRORS

from .building import sent
from .conftest import UPSTREAM

ENUMS = [
    ("callbacks", "ExecutionMode"),
    ("operators.pod", "PodEventType"),
    ("triggers.pod", "ContainerState"),
    ("utils.pod_manager", "OnFinishAction"),
    ("utils.pod_manager", "OnKillAction"),
]


def both(module: str) -> tuple[Any, Any]:
    """Upstream's module, and the one by the same name here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"{UPSTREAM}.{module}"), importlib.import_module(f"kpo_multicluster.{module}")


@pytest.mark.parametrize("module", MIRRORS)
def test_what_is_mirrored_is_what_upstream_has(upstream: Any, module: str) -> None:
    theirs, ours = both(module)
    for name in MIRRORS[module]:
        original, mirror = getattr(theirs, name), getattr(ours, name)
        assert type(original) is type(mirror) or isinstance(mirror, type), name
        if not isinstance(original, type):
            assert original == mirror, name


@pytest.mark.parametrize(("module", "name"), ENUMS)
def test_enumerations(upstream: Any, module: str, name: str) -> None:
    theirs, ours = (getattr(side, name) for side in both(module))
    assert {member.name: member.value for member in theirs} == {member.name: member.value for member in ours}
    assert issubclass(theirs, str) == issubclass(ours, str)


@pytest.mark.parametrize("module", MIRRORS)
def test_every_exception_and_choice_that_a_dag_may_name(upstream: Any, module: str) -> None:
    theirs, ours = both(module)
    named = [
        name
        for name, value in vars(theirs).items()
        if isinstance(value, type)
        and value.__module__ == theirs.__name__
        and issubclass(value, (Exception, Enum))
        and not name.startswith("_")
    ]
    assert [name for name in named if not hasattr(ours, name)] == []


def test_phases(upstream: Any) -> None:
    theirs, ours = (vars(side.PodPhase) for side in both("utils.pod_manager"))
    public = {name: value for name, value in theirs.items() if not name.startswith("_")}
    assert {name: ours[name] for name in public} == public


def test_callbacks_have_the_same_names_and_arguments(upstream: Any) -> None:
    theirs, ours = (side.KubernetesPodOperatorCallback for side in both("callbacks"))
    names = [name for name in vars(theirs) if not name.startswith("_")]
    assert sorted(names) == sorted(name for name in vars(ours) if not name.startswith("_"))
    for name in names:
        original, mirror = (inspect.signature(getattr(side, name)).parameters for side in (theirs, ours))
        assert original.keys() == mirror.keys(), name
        assert [p.kind for p in original.values()] == [p.kind for p in mirror.values()], name
        assert isinstance(vars(ours)[name], staticmethod)


def test_callbacks_are_called_with_the_arguments_upstream_declares(upstream: Any) -> None:
    from kpo_multicluster.operators.callback_calls import CallbackCalls

    base = both("callbacks")[0].KubernetesPodOperatorCallback
    calls = CallbackCalls([base], client=lambda: None)
    assert [name for name in vars(base) if not name.startswith("_") and calls.implementing(name)] == []
    child = type("Child", (base,), {"on_pod_creation": staticmethod(lambda **arguments: None)})
    assert len(CallbackCalls([child], client=lambda: None).implementing("on_pod_creation")) == 1


def test_hooks_have_the_same_names_and_arguments(upstream: Any) -> None:
    theirs, ours = (side.KubernetesHook for side in both("hooks.kubernetes"))
    for name in ("conn_name_attr", "default_conn_name", "conn_type", "hook_name", "DEFAULT_NAMESPACE"):
        assert getattr(theirs, name) == getattr(ours, name)
    original, mirror = (inspect.signature(side.__init__).parameters for side in (theirs, ours))
    assert list(mirror)[: len(original)] == list(original)
    assert {name: mirror[name].default for name in original} == {name: p.default for name, p in original.items()}
    protocol = both("hooks.kubernetes")[0].PodOperatorHookProtocol
    assert [name for name in vars(protocol) if not name.startswith("_") and not hasattr(ours, name)] == []


def test_a_hook_of_upstream_is_understood(upstream: Any) -> None:
    from kpo_multicluster.operators.pod import KubernetesPodOperator

    theirs = both("hooks.kubernetes")[0].KubernetesHook(conn_id=None, config_dict={"a": 1}, cluster_context="c")
    operator = KubernetesPodOperator(task_id="task")
    operator.__dict__["hook"] = theirs
    hook = operator._cluster_hook
    assert (hook.config_dict, hook.cluster_context, hook.conn_id) == ({"a": 1}, "c", "kubernetes_default")


@pytest.mark.parametrize(
    "arguments",
    [
        ("env", "name", "vault", "key"),
        ("env", None, "vault"),
        ("volume", "/vault", "vault"),
        ("volume", "/vault", "vault", None, [{"key": "k", "path": "p"}]),
    ],
)
def test_secrets_make_the_same_pods(upstream: Any, arguments: tuple[Any, ...]) -> None:
    from kubernetes.client import models

    from kpo_multicluster.operators.pod import KubernetesPodOperator

    theirs, ours = (side.Secret(*arguments) for side in both("secret"))
    attributes = ("deploy_type", "deploy_target", "secret", "key", "items")
    assert [getattr(theirs, name) for name in attributes] == [getattr(ours, name) for name in attributes]
    plain = models.V1Pod(spec=models.V1PodSpec(containers=[models.V1Container(name="base")]))
    assert without_names(sent(ours.attach_to_pod(plain))) == without_names(sent(theirs.attach_to_pod(plain)))
    pods = [
        sent(KubernetesPodOperator(task_id="task", secrets=[secret]).build_pod_request_obj(dry_run=True))
        for secret in (theirs, ours)
    ]
    assert pods[0]["spec"] == pods[1]["spec"]


def without_names(pod: Any) -> Any:
    for entry in (*(pod["spec"].get("volumes") or ()), *(pod["spec"]["containers"][0].get("volumeMounts") or ())):
        assert entry.pop("name").startswith("secretvol")
    return pod


def test_upstream_s_choices_and_callbacks_are_taken(upstream: Any) -> None:
    from kpo_multicluster.operators.enums import OnFinishAction, OnKillAction
    from kpo_multicluster.operators.pod import KubernetesPodOperator

    choices, callbacks = both("utils.pod_manager")[0], both("callbacks")[0].KubernetesPodOperatorCallback
    operator = KubernetesPodOperator(
        task_id="task",
        on_finish_action=choices.OnFinishAction.KEEP_POD,
        on_kill_action=choices.OnKillAction.KEEP_POD,
        callbacks=[callbacks],
    )
    assert operator.on_finish_action is OnFinishAction.KEEP_POD
    assert operator.on_kill_action is OnKillAction.KEEP_POD
    assert operator.callbacks == [callbacks]


def test_names_of_environment_variables_are_rendered_alike(upstream: Any) -> None:
    from airflow.sdk import DAG

    from kpo_multicluster.operators.pod import KubernetesPodOperator

    built = []
    for kind in (upstream, KubernetesPodOperator):
        with DAG("dag", schedule=None):
            operator: Any = kind(task_id="task", env_vars={"A_{{ name }}": "{{ value }}"}, image="a")
        operator.render_template_fields({"name": "X", "value": "x"})
        built.append(sent(operator.build_pod_request_obj(dry_run=True))["spec"]["containers"][0]["env"])
    assert built[0] == built[1] == [{"name": "A_X", "value": "x"}]
