"""The parts of an Airflow outlive single tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """What a test starts here, such as another triggerer, goes on for the next: all end with the module."""
