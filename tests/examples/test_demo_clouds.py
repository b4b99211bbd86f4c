"""The examples of the clouds, on emulated ones: each pod is on its cloud's cluster, by the record of that cluster."""

from __future__ import annotations

import pytest

from .conftest import Demos

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("cloud", ["eks", "gke", "aks"])
def test_a_pod_on_each_cloud(demos: Demos, cloud: str) -> None:
    row = demos.examples.finished().row(f"clouds_{cloud}", f"on_{cloud}")
    assert (row["cluster"], row["state"]) == (cloud, "success")
    assert row["result"] == f"Hello from a pod on {cloud.upper()}"
    assert row["pod"].startswith(f"on-{cloud}-")
