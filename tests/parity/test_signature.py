"""The operator's surface, against the installed upstream operator's."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

CONSTANTS = (
    "BASE_CONTAINER_NAME",
    "ISTIO_CONTAINER_NAME",
    "KILL_ISTIO_PROXY_SUCCESS_MSG",
    "MAX_REDEFER_ATTEMPTS",
    "POD_CHECKED_KEY",
    "POST_TERMINATION_TIMEOUT",
)


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
    assert parameters(upstream).keys() <= parameters(operator).keys()
    assert len(parameters(upstream)) == 73


def test_defaults_are_the_same(upstream: Any, operator: Any) -> None:
    here = parameters(operator)
    different = {name: (here[name], default) for name, default in parameters(upstream).items() if here[name] != default}
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
    assert [name for name in public_names(upstream) if not hasattr(operator, name)] == []


def test_they_take_what_they_take_upstream(upstream: Any, operator: Any) -> None:
    for name in public_names(upstream):
        method = getattr(upstream, name)
        if inspect.isfunction(method):
            here = inspect.signature(getattr(operator, name)).parameters
            assert list(here)[: len(inspect.signature(method).parameters)] == list(inspect.signature(method).parameters)
