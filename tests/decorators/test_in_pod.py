"""The program that runs in the pod, by itself, under whichever Pythons there are."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.decorators.function_source import FunctionSource
from kpo_multicluster.decorators.payload import BOOTSTRAP, payload

OLDEST, NEWEST = 6, 15


def interpreters() -> list[str]:
    """Paths of all Pythons that are found by name and run."""
    found = []
    for minor in range(OLDEST, NEWEST):
        path = shutil.which(f"python3.{minor}")
        # A name may stand for a version that was not chosen.
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            found.append(path)
    return found or [sys.executable]


@pytest.fixture(params=interpreters(), ids=lambda path: Path(path).name)
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ran(
    python: str, text: str, result: Path, *args: Any, serializer: str = "json", **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    source = FunctionSource("f", text, "/dags/mine.py", 40, True)
    sent = payload(source, args, kwargs, serializer=serializer, result_file=str(result))
    environment = {"PATH": "/usr/bin:/bin", **{entry["name"]: entry["value"] for entry in sent}}
    return subprocess.run(
        [python, "-u", "-c", BOOTSTRAP], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_result(python: str, tmp_path: Path) -> None:
    # The directory is made where it is not mounted.
    result = tmp_path / "airflow" / "xcom" / "return.json"
    text = "def f(a, *, b='x'):\n    import os\n    return [a, b, sorted(n for n in os.environ if 'KPO' in n)]\n"
    done = ran(python, text, result, {"é": [1.5, None]}, b="y")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(result.read_text()) == [{"é": [1.5, None]}, "y", []]


def test_pickled_arguments(python: str, tmp_path: Path) -> None:
    result = tmp_path / "return.json"
    done = ran(python, "def f(a):\n    return sorted(a)\n", result, {3, 1}, serializer="pickle")
    if "unsupported pickle protocol" not in done.stderr:  # Python 3.6 and 3.7 know an older one only
        assert json.loads(result.read_text()) == [1, 3], done.stderr


def test_a_traceback(python: str, tmp_path: Path) -> None:
    done = ran(python, "def f():\n    print('before')\n    raise ValueError('so it is')\n", tmp_path / "r")
    assert (done.returncode, done.stdout) == (1, "before\n")
    lines = done.stderr.splitlines()
    assert lines[:3] == [
        "Traceback (most recent call last):",
        '  File "/dags/mine.py", line 42, in f',
        "    raise ValueError('so it is')",
    ]
    assert lines[-1] == "ValueError: so it is"
    assert not (tmp_path / "r").exists()


def test_syntax_that_is_too_new_or_none(python: str, tmp_path: Path) -> None:
    done = ran(python, "def f():\n    return )\n", tmp_path / "r")
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr
    assert 'File "/dags/mine.py", line 41' in done.stderr


@pytest.mark.parametrize(("raised", "code"), [("SystemExit(7)", 7), ("SystemExit", 0), ("KeyboardInterrupt", 1)])
def test_exit_codes(python: str, tmp_path: Path, raised: str, code: int) -> None:
    done = ran(python, f"def f():\n    raise {raised}\n", tmp_path / "r")
    # An interrupt ends newer Pythons by its signal.
    assert done.returncode in ({1, -2, 130} if raised == "KeyboardInterrupt" else {code})


def test_its_text_is_one_that_python_3_6_reads() -> None:
    ast.parse(files("kpo_multicluster.decorators").joinpath("in_pod.py").read_text(), feature_version=(3, OLDEST))


def test_the_command_holds_nothing_that_kubernetes_expands() -> None:
    assert "$" not in BOOTSTRAP
