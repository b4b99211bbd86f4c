"""The page that the results are written to, and what the machine and the software were."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from bench.arms import OURS, ROUNDS, UPSTREAM
from bench.chapters import Chapter
from bench.clusters import Cluster
from bench.measure import Results
from bench.subjects import REPOSITORY
from bench.tables import sections, verdicts
from bench.targets import Target, targets

PAGE = REPOSITORY / "docs" / "benchmarks.md"
_PACKAGES = ("apache-airflow", "apache-airflow-providers-cncf-kubernetes", "kubernetes", "aiohttp")
_LIST_VERSIONS = (
    "import sys\n"
    "from importlib.metadata import PackageNotFoundError, version\n"
    "for name in sys.argv[1:]:\n"
    "    try: print(name, version(name))\n"
    "    except PackageNotFoundError: pass\n"
)
_INTRODUCTION = """\
# Benchmarks

Written by `make bench`. It runs this package's operator beside the upstream one: the same tasks on the same cluster in
turn, each in a virtual environment of its own. Run it on your machine before you rely on a number.

- Numbers are medians, with the lowest and the highest in brackets, of {rounds} runs after one that is not counted.
  Before each task the node has cleared the pod of the last one away. A kubelet looks at its containers once a second:
  the runs start at different points of that second, the same ones for each column.
- Seconds are those of `execute()`. `echo hello` itself takes a few milliseconds of them; the rest is what the cluster
  needs to start a pod and to tell that it has ended, and what the operator adds.
- *By hand* is an operator that creates a pod, watches it beside its log, and deletes it, with nothing for the case that
  something goes wrong: `bench/by_hand.py`.
- *`dag.test()`*: all tasks in one process. *Process of its own*: forked by Airflow's own supervisor for each task, as
  executors do it; a stand-in answers for Airflow's API server.
- The *bare logger* is a task that hands the same lines to its logger, without a pod; the *raw stream* one that reads
  them from a pod and only counts them. The *pod whose log is not read* shows what writing them takes by itself.
- *Machine's*: the processor seconds of everything that ran meanwhile, such as the node, the API server and Airflow's
  supervisor. Shared by the machine's processors, they are the least time there can be.
- Requests are those in the API server's audit log. Memory is what the kernel says of the task's process.
"""


@dataclass(frozen=True)
class Circumstances:
    """When and where.

    Attributes:
        began: when the measurements did.
        load: how many processes wanted to run just before.
        cluster: what the pods ran on.
        real: whether that was a real cluster.
    """

    began: datetime
    load: float
    cluster: str
    real: bool

    @classmethod
    def now(cls, cluster: Cluster) -> Circumstances:
        """Those of this moment."""
        return cls(datetime.now(timezone.utc), os.getloadavg()[0], cluster.title, cluster.real)

    def text(self) -> str:
        """As a list."""
        lines = [
            f"- {self.began:%Y-%m-%d %H:%M} UTC; {self.cluster}",
            f"- {_processor()}, {os.cpu_count()} processors, load {self.load:.1f} before; Linux {platform.release()}",
            *(f"- {arm.title}: {_versions(arm.environment)}" for arm in (OURS, UPSTREAM)),
        ]
        return "\n".join(lines)


def page(results: Results, chapters: Sequence[Chapter], circumstances: Circumstances) -> str:
    """All of it, as Markdown."""
    parts = [_INTRODUCTION.format(rounds=ROUNDS), circumstances.text()]
    for heading, table in sections(results):
        parts += [f"## {heading}", table]
    for chapter in chapters:
        parts += [f"## {chapter.heading}", *([chapter.notes] if chapter.notes else []), chapter.table]
    if circumstances.real:
        parts += ["## What is wanted", verdicts(_targets(results, chapters))]
    else:
        parts.append("This was no real cluster: its times are not held against what is wanted.")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def missed(results: Results, chapters: Sequence[Chapter]) -> Sequence[str]:
    """What is wanted and was not met."""
    return [f"{each.what}: {each.found}, wanted {each.wanted}" for each in _targets(results, chapters) if not each.met]


def _targets(results: Results, chapters: Sequence[Chapter]) -> list[Target]:
    return [*targets(results), *(target for chapter in chapters for target in chapter.targets)]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _versions(environment: str) -> str:
    python = str(REPOSITORY / environment / "bin" / "python")
    command = (python, "-c", "import platform; print('Python', platform.python_version())\n" + _LIST_VERSIONS)
    told = subprocess.run((*command, *_PACKAGES), capture_output=True, text=True, check=True).stdout
    return ", ".join(told.splitlines())
