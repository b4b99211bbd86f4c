"""What docs/decorators.md, docs/workerless.md and docs/cloud-operators.md tell a reader to write works."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from kpo_multicluster.airflow_names import STARTS_IN_TRIGGERER

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENTS = ("decorators.md", "cloud-operators.md", "workerless.md")


def blocks(document: str, language: str) -> list[str]:
    text = (DOCS / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


NEEDS_3_3 = pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="needs Airflow 3.3")


@pytest.mark.parametrize(
    ("document", "number"),
    [
        ("decorators.md", 0),
        ("decorators.md", 1),
        ("cloud-operators.md", 0),
        pytest.param("workerless.md", 0, marks=NEEDS_3_3),
    ],
)
def test_every_dag_can_be_parsed(document: str, number: int, tmp_path: Path) -> None:
    file = tmp_path / "dag.py"
    # The source of a function is read from its file.
    file.write_text(blocks(document, "python")[number])
    assert "DAG" in runpy.run_path(str(file))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_linked_file_exists(document: str) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", (DOCS / document).read_text(encoding="utf-8"))
    assert [link for link in links if not (DOCS / link).exists()] == []
