"""What the pods of the benchmark do. Read by the DAG file too: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

LINE_COUNT = 200_000
LINE_BYTES = 100
# Ten lines at short intervals, then a pause, as programs log that do something.
TICKS = 40
_TICK_SECONDS = 0.05
_PAUSE_SECONDS = 0.5

_SHELL_IMAGE = "alpine:3.22"
_PYTHON_IMAGE = "python:3.11-slim"


@dataclass(frozen=True)
class Case:
    """A pod.

    Attributes:
        name: also that of the task and its DAG.
        image: of the pod.
        command: of the pod.
        xcom: whether it gives a result, `RESULT`.
    """

    name: str
    image: str
    command: tuple[str, ...]
    xcom: bool = False


RESULT = {"greeting": "hello"}

HELLO = Case("hello", _SHELL_IMAGE, ("echo", "hello"))
HELLO_XCOM = Case(
    "hello_xcom",
    _SHELL_IMAGE,
    ("sh", "-c", 'echo hello; echo \'{"greeting": "hello"}\' > /airflow/xcom/return.json'),
    xcom=True,
)
LINES = Case(
    "lines",
    _SHELL_IMAGE,
    ("awk", f'BEGIN {{ for (i = 0; i < {LINE_COUNT}; i++) printf "%08d %090d\\n", i, 0 }}'),
)
TICKING = Case(
    "ticking",
    _PYTHON_IMAGE,
    (
        "python3",
        "-uc",
        "import time\n"
        f"for number in range({TICKS}):\n"
        "    print('tick', number, time.time())\n"
        f"    time.sleep({_TICK_SECONDS} if number % 10 < 9 else {_PAUSE_SECONDS})\n",
    ),
)
CASES = (HELLO, HELLO_XCOM, LINES, TICKING)


def line(number: int) -> str:
    """A line of `LINES`, without its end."""
    return f"{number:08d} {0:090d}"
