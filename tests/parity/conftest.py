"""The upstream operator, where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any

import pytest

UPSTREAM = "airflow.providers.cncf.kubernetes"


def _installed() -> bool:
    try:
        return importlib.util.find_spec(UPSTREAM) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(scope="session")
def upstream() -> Any:
    """The upstream operator's class."""
    if not _installed():
        pytest.skip("the upstream provider is not installed here; `make test-upstream` sets it up")
    with warnings.catch_warnings():
        # What other packages warn of while they are imported is not under test.
        warnings.simplefilter("ignore")
        return importlib.import_module(f"{UPSTREAM}.operators.pod").KubernetesPodOperator
