"""The pytest plugin that users' own test suites get."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest
from kpo_multicluster.testing import EmbeddedCluster, NodeSpec

seen = []


def test_a_cluster_for_one_test(pod_cluster):
    assert isinstance(pod_cluster, EmbeddedCluster)
    assert pod_cluster.pods() == []
    seen.append(pod_cluster)


def test_another_for_the_next(pod_cluster):
    assert pod_cluster is not seen[0]
    assert "not running" in repr(seen[0])
    assert pod_cluster.requests.counts() == {}


@pytest.mark.pod_cluster("gpu", nodes=[NodeSpec("gpu-node")], namespaces=["team"])
def test_options_by_mark(pod_cluster):
    assert pod_cluster.name == "gpu"
    assert [node["metadata"]["name"] for node in pod_cluster.objects("nodes")] == ["gpu-node"]
    assert [item["metadata"]["name"] for item in pod_cluster.objects("namespaces")] == ["team"]


async def test_in_a_loop(pod_cluster):
    assert pod_cluster.pods() == []


def test_several(pod_clusters):
    alpha, beta = pod_clusters("alpha"), pod_clusters("beta")
    assert alpha.server != beta.server
"""


def test_the_fixtures_work_as_documented(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error"
    )
    options = ("-p", "no:cacheprovider", "-p", "no:anyio", "--strict-markers")
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=5)


def test_the_mark_is_listed(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.pod_cluster(name, ?*options): *"])


def test_the_plugin_costs_other_suites_nothing() -> None:
    script = (
        "import sys, kpo_multicluster.testing.pytest_plugin\n"
        "heavy = ('aiohttp', 'cryptography', 'kubernetes', 'airflow', 'yaml', 'asyncio')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
