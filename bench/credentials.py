"""What it takes to reach a cluster of each cloud: to its first answer in a fresh process, and for a token more.

    python -m bench.credentials

Both ways reach the same embedded cluster through the same emulated cloud, with the same Airflow connection. A first
answer counts from where `airflow.sdk` is imported, as it is in every task: what else is imported is in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.arms import OURS, UPSTREAM, Arm
from bench.chapters import Chapter
from bench.spread import Spread
from bench.subjects import REPOSITORY, BenchError
from bench.tables import table
from bench.targets import Target
from demo.clouds import WithClouds
from demo.clusters import UserClusters

Say = Callable[[str], None]
Way = tuple[Arm, str]
Found = Mapping[Way, Sequence[Mapping[str, float]]]

_ROUNDS: Final = 3
_WAYS: Final[Sequence[Way]] = ((OURS, "eks"), (UPSTREAM, "eks"), (OURS, "gke"), (UPSTREAM, "gke"), (OURS, "aks"))
_OPERATORS: Final = {"eks": "EksPodOperator", "gke": "GKEStartPodOperator"}
_MILLI: Final = 1e3
_NOTES: Final = """\
From the import of `airflow.sdk` to the first answer of a cluster's API server, in a fresh process, and a token more in
the same process. Both ways use the same Airflow connection, on the same emulated clouds. These answer at once: what a
real one takes comes on top of either. `EksPodOperator` has a kubeconfig run a script for each client that it makes;
upstream has no operator for AKS."""


def measure(say: Say) -> Chapter:
    """Measures all ways in rounds, after one that is not counted.

    Raises:
        BenchError: one did not get there.
    """
    found: dict[Way, list[Mapping[str, float]]] = {way: [] for way in _WAYS}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kpo-bench-")))
        clouds = stack.enter_context(WithClouds(scratch, UserClusters("")))
        environ = _environ(clouds.environment(os.environ), scratch)
        for number in range(_ROUNDS + 1):
            for arm, kind in _WAYS:
                measured = _measured(arm, kind, environ)
                if number:
                    found[arm, kind].append(measured)
                    say(f"round {number}: {kind.upper()}, {arm.title}: {measured['first_seconds']:.2f} s")
    return Chapter(
        "From a cloud's credentials to a cluster's first answer", _NOTES, _table(found), tuple(_targets(found))
    )


def _table(found: Found) -> str:
    rows = []
    for (arm, kind), runs in found.items():
        by = f"{kind.upper()}, {arm.title}" if arm is OURS else f"{kind.upper()}, as `{_OPERATORS[kind]}` does"
        first, first_cpu, token, token_cpu = (
            Spread.of(run[name] for run in runs)
            for name in ("first_seconds", "first_cpu_seconds", "renewal_seconds", "renewal_cpu_seconds")
        )
        rows.append((by, first.text(), first_cpu.text(), token.text(1, _MILLI), token_cpu.text(1, _MILLI)))
    return table(("", "first answer, s", "processor s", "a token more, ms", "processor ms"), rows)


def _targets(found: Found) -> Iterator[Target]:
    def middle(arm: Arm, kind: str, name: str) -> float:
        return Spread.of(run[name] for run in found[arm, kind]).middle

    for kind, times in (("eks", 10), ("gke", 3)):
        ours, theirs = (middle(arm, kind, "first_seconds") for arm in (OURS, UPSTREAM))
        wanted = f"at least {times} times faster than `{_OPERATORS[kind]}`"
        yield Target(f"first answer, {kind.upper()}", wanted, f"{theirs / ours:.1f} times", theirs >= times * ours)
    for kind in ("eks", "gke", "aks"):
        spent = middle(OURS, kind, "renewal_cpu_seconds") * _MILLI
        yield Target(f"a token more, {kind.upper()}", "at most 50 ms of a processor", f"{spent:.1f} ms", spent <= 50)


def main() -> None:
    """Measures and prints a table: medians."""
    chapter = measure(_say)
    _say(chapter.table)
    for each in chapter.targets:
        _say(f"{'met' if each.met else 'MISSED'}: {each.what}: {each.found}, wanted {each.wanted}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _environ(environ: Mapping[str, str], scratch: Path) -> dict[str, str]:
    aws = json.loads(environ["AIRFLOW_CONN_AWS_REMOTE"])
    # The role is assumed by the connection, which both operators know how to do.
    aws["extra"] |= {
        "role_arn": "arn:aws:iam::222222222222:role/airflow-pods",
        "assume_role_kwargs": {"ExternalId": "team-7"},
    }
    google = json.loads(environ["AIRFLOW_CONN_GOOGLE_ML"])
    # Without it no module would be compiled for the next process, of either environment.
    kept = {name: value for name, value in environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "AIRFLOW_CONN_AWS_REMOTE": json.dumps(aws),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({"conn_type": "aws", "extra": {"region_name": "us-east-2"}}),
        "GKE_API_ENDPOINT": google["extra"]["api_endpoint"],
        "AIRFLOW_HOME": str(scratch / "airflow"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _measured(arm: Arm, kind: str, environ: Mapping[str, str]) -> Mapping[str, float]:
    binaries = REPOSITORY / arm.environment / "bin"
    way = "ours" if arm is OURS else "upstream"
    run = subprocess.run(
        [binaries / "python", "-W", "ignore", "-m", "bench.credential_subject", way, kind],
        cwd=REPOSITORY,
        # Upstream's script calls Python by a name that it looks for on the path.
        env={**environ, "PATH": f"{binaries}:{environ.get('PATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise BenchError(f"{kind.upper()}, {arm.title}, failed:\n{run.stdout}\n{run.stderr}")
    found: Mapping[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
