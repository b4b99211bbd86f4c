"""The operator's surface, against the installed upstream operator's."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

# What upstream has and this operator has not yet; a name that has come must leave its list.
PARAMETERS_TO_COME = {"logging_interval", "poll_interval"}
METHODS_TO_COME = {
    "client",
    "convert_config_file_to_dict",
    "execute_async",
    "hook",
    "invoke_defer_method",
    "is_istio_enabled",
    "kill_istio_sidecar",
    "pod_manager",
    "process_duplicate_label_pods",
    "trigger_reentry",
}
CONSTANTS = ("BASE_CONTAINER_NAME", "ISTIO_CONTAINER_NAME", "POD_CHECKED_KEY")


@pytest.fixture(scope="module")
def operator(upstream: Any) -> Any:
    from kpo_multicluster.operators.pod import KubernetesPodOperator

    return KubernetesPodOperator


def parameters(operator: Any) -> dict[str, Any]:
    """Keyword parameters and their defaults."""
    signature = inspect.signature(operator.__init__)
    keywords = (p for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY)
    return {parameter.name: parameter.default for parameter in keywords}


def test_every_parameter_is_there(upstream: Any, operator: Any) -> None:
    assert parameters(upstream).keys() - parameters(operator).keys() == PARAMETERS_TO_COME


def test_defaults_are_the_same(upstream: Any, operator: Any) -> None:
    here = parameters(operator)
    different = {
        name: (here[name], default)
        for name, default in parameters(upstream).items()
        if name not in PARAMETERS_TO_COME and here[name] != default
    }
    assert not different


def test_further_parameters_may_be_left_out(upstream: Any, operator: Any) -> None:
    further = parameters(operator).keys() - parameters(upstream).keys()
    assert not [name for name in further if parameters(operator)[name] is inspect.Parameter.empty]


def test_template_fields_are_the_same(upstream: Any, operator: Any) -> None:
    assert tuple(operator.template_fields) == tuple(upstream.template_fields)
    assert operator.template_fields_renderers == upstream.template_fields_renderers
    assert tuple(operator.template_ext) == tuple(upstream.template_ext)


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_the_same(upstream: Any, operator: Any, name: str) -> None:
    assert getattr(operator, name) == getattr(upstream, name)


def public_names(operator: Any) -> set[str]:
    return {name for name in vars(operator) if not name.startswith("_") and not name.isupper()}


def test_methods_that_users_call_or_override_are_there(upstream: Any, operator: Any) -> None:
    missing = {name for name in public_names(upstream) if not hasattr(operator, name)}
    assert missing == METHODS_TO_COME


def test_they_take_what_they_take_upstream(upstream: Any, operator: Any) -> None:
    for name in public_names(upstream) - METHODS_TO_COME:
        method = getattr(upstream, name)
        if inspect.isfunction(method):
            here = inspect.signature(getattr(operator, name)).parameters
            assert list(here)[: len(inspect.signature(method).parameters)] == list(inspect.signature(method).parameters)
