"""Readies Airflow for the upstream operator, in a home of its own."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

UPSTREAM = "airflow.providers.cncf.kubernetes"


def _installed() -> bool:
    try:
        return importlib.util.find_spec(UPSTREAM) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(scope="session")
def upstream() -> Iterator[Any]:
    """The upstream operator's class."""
    if not _installed():
        pytest.skip("the upstream provider is not installed here; `make test-upstream` sets it up")
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        if "AIRFLOW_HOME" not in os.environ:
            patch.setenv("AIRFLOW_HOME", home)
        # What other packages warn of while they are imported is not under test.
        warnings.simplefilter("ignore")
        yield importlib.import_module(f"{UPSTREAM}.operators.pod").KubernetesPodOperator
