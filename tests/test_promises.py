"""What the package promises of itself as a whole: light to import, nothing process-wide, no secret in a file."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kpo_multicluster"
# Shipped for tests, started by a command of its own: the product never runs it.
PRODUCT = [path for path in PACKAGE.rglob("*.py") if "testing" not in path.relative_to(PACKAGE).parts]
HEAVY = (
    "aiohttp",
    "kubernetes",
    "kubernetes_asyncio",
    "boto3",
    "botocore",
    "google.auth",
    "azure",
    "requests",
    "urllib3",
)

IMPORT = """
import json, sys
from airflow.sdk import BaseOperator
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_the_operator_is_light_to_import() -> None:
    """By what it loads: the time that takes is measured by the benchmark."""
    program = IMPORT.format(module="kpo_multicluster.operators.pod")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    new = json.loads(run.stdout.splitlines()[-1])
    assert [name for name in new if name.startswith(HEAVY)] == []
    assert len(new) <= 80, new


PARSE = """
import json, runpy, sys
runpy.run_path(sys.argv[1])
print(json.dumps(sorted(sys.modules)))
"""


def test_a_dag_file_that_uses_every_operator_loads_no_client_and_no_cloud() -> None:
    file = PACKAGE.parent / "bench" / "dags" / "every_operator.py"
    run = subprocess.run(
        [sys.executable, "-c", PARSE, str(file)], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = json.loads(run.stdout.splitlines()[-1])
    # Airflow's own modules load these two.
    assert [name for name in loaded if name.startswith(HEAVY) and not name.startswith(("requests", "urllib3"))] == []
    assert "kpo_multicluster.operators.aks" in loaded


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in PRODUCT:
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text())


def is_environ(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"


def changes_the_environment(node: ast.AST) -> bool:
    if isinstance(node, (ast.Assign, ast.Delete)):
        return any(isinstance(target, ast.Subscript) and is_environ(target.value) for target in node.targets)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        changing = {"update", "setdefault", "pop", "popitem", "clear", "__setitem__"}
        return node.func.attr in {"putenv", "unsetenv"} or (node.func.attr in changing and is_environ(node.func.value))
    return False


# What is run in a pod, and a program of its own.
OWN_PROCESSES = {"decorators/in_pod.py", "cli_cluster.py"}


def test_nothing_changes_the_environment() -> None:
    changing = {name for name, tree in trees() if any(changes_the_environment(node) for node in ast.walk(tree))}
    assert changing <= OWN_PROCESSES


def test_nothing_sets_the_client_s_process_wide_default() -> None:
    calls = {
        (name, node.attr)
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"set_default", "load_kube_config", "load_incluster_config"}
    }
    assert calls == set()


def test_a_temporary_file_is_made_only_where_there_is_no_memfd() -> None:
    users = [
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(alias.name == "tempfile" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "tempfile")
    ]
    # Both make one only where memfd_create is missing, and without a name.
    assert set(users) <= {"auth/tls.py", "auth/exec_process.py"}


@pytest.mark.parametrize("path", [*PRODUCT], ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_has_one_purpose(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_package_says_that_it_is_typed() -> None:
    assert files("kpo_multicluster").joinpath("py.typed").is_file()
