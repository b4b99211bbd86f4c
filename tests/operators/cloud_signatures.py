"""Compares an operator with the one that another provider has by the same name, where that is installed."""

from __future__ import annotations

import importlib
import inspect
import warnings
from importlib.util import find_spec
from typing import Any

import pytest

# They stand for more arguments, which are compared one by one.
_REST = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _is_installed(provider: str) -> bool:
    try:
        return find_spec(f"airflow.providers.{provider}") is not None
    except ModuleNotFoundError:
        return False


def installed(provider: str, module: str, name: str) -> Any:
    """A class of another provider; skips the test where it, or the upstream operator that it is made of, is missing."""
    for needed in (provider, "cncf.kubernetes"):
        if not _is_installed(needed):
            pytest.skip(f"the {needed} provider is not installed here; `make test-upstream` sets it up")
    with warnings.catch_warnings():
        # What other packages warn of while they are imported is not under test.
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(module), name)


def arguments_of(operator: Any) -> dict[str, Any]:
    """The arguments that a class itself takes, with their defaults."""
    taken = inspect.signature(operator.__init__).parameters
    return {name: p.default for name, p in taken.items() if p.kind not in _REST and name != "self"}


def check_signature(theirs: Any, ours: Any, *, further: set[str]) -> None:
    """Asserts that ours takes what theirs takes, with the same defaults and template fields.

    Args:
        theirs: the class of the other provider.
        ours: the class of this one.
        further: template fields that only ours has.
    """
    assert arguments_of(theirs).items() <= arguments_of(ours).items()
    assert set(ours.template_fields) == set(theirs.template_fields) | further
    assert len(set(ours.template_fields)) == len(ours.template_fields)
    assert ours.template_fields_renderers == theirs.template_fields_renderers
