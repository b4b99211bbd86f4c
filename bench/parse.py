"""What a DAG file that uses every operator costs to parse, over one that imports `airflow.sdk` alone.

    python -m bench.parse

Each parse is one of a fresh interpreter, as nothing but Airflow itself is loaded when a DAG processor parses a file.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Final

DAG_FILE: Final = Path(__file__).parent / "dags" / "every_operator.py"
_ROUNDS: Final = 7
_PARSE: Final = """
import runpy, sys, time
from airflow.sdk import DAG, task
wall, cpu = time.perf_counter(), time.process_time()
runpy.run_path(sys.argv[1])
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def main() -> None:
    """Measures and prints."""
    wall, cpu = zip(*(_parsed() for _ in range(_ROUNDS)), strict=True)
    said = f"every operator: {statistics.median(wall):.3f} s, {statistics.median(cpu):.3f} s of a processor"
    print(said)  # noqa: T201 - what it is for


def _parsed() -> tuple[float, float]:
    command = [sys.executable, "-W", "ignore", "-c", _PARSE, str(DAG_FILE)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, cpu = run.stdout.split()[-2:]
    return float(wall), float(cpu)


if __name__ == "__main__":
    main()
