"""What it takes to reach a cluster of each cloud: to its first answer in a fresh process, and for a token more.

    python -m bench.credentials

Both ways reach the same embedded cluster through the same emulated cloud, with the same Airflow connection. A first
answer counts from where `airflow.sdk` is imported, as it is in every task: what else is imported is in it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from demo.clouds import WithClouds
from demo.clusters import UserClusters

_ROOT: Final = Path(__file__).resolve().parent.parent
_ROUNDS: Final = 5
_ARMS: Final = (
    ("ours", "eks", ".venv"),
    ("upstream", "eks", ".venv-upstream"),
    ("ours", "gke", ".venv"),
    ("upstream", "gke", ".venv-upstream"),
    ("ours", "aks", ".venv"),
)
_TITLES: Final = {
    ("ours", "eks"): "EKS, kpo-multicluster",
    ("upstream", "eks"): "EKS, as EksPodOperator does",
    ("ours", "gke"): "GKE, kpo-multicluster",
    ("upstream", "gke"): "GKE, as GKEStartPodOperator does",
    ("ours", "aks"): "AKS, kpo-multicluster (upstream has no way)",
}
_COLUMNS: Final = ("first_seconds", "first_cpu_seconds", "renewal_seconds", "renewal_cpu_seconds")


def main() -> None:
    """Measures and prints a table: medians."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kpo-bench-")))
        clouds = stack.enter_context(WithClouds(scratch, UserClusters("")))
        environ = _environ(clouds.environment(os.environ), scratch)
        found: dict[tuple[str, str], list[Mapping[str, float]]] = {arm[:2]: [] for arm in _ARMS}
        for _ in range(_ROUNDS):
            for arm, kind, environment in _ARMS:
                found[arm, kind].append(_measured(arm, kind, environment, environ))
    lines = ["| | first answer, s | CPU s | a token more, ms | CPU ms |", "|---|---|---|---|---|"]
    for key, runs in found.items():
        medians = [statistics.median(run[column] for run in runs) for column in _COLUMNS]
        first, token = [f"{value:.2f}" for value in medians[:2]], [f"{value * 1000:.1f}" for value in medians[2:]]
        lines.append(f"| {' | '.join([_TITLES[key], *first, *token])} |")
    sys.stdout.write("\n".join(lines) + "\n")


def _environ(environ: Mapping[str, str], scratch: Path) -> dict[str, str]:
    aws = json.loads(environ["AIRFLOW_CONN_AWS_REMOTE"])
    # The role is assumed by the connection, which both operators know how to do.
    aws["extra"] |= {
        "role_arn": "arn:aws:iam::222222222222:role/airflow-pods",
        "assume_role_kwargs": {"ExternalId": "team-7"},
    }
    google = json.loads(environ["AIRFLOW_CONN_GOOGLE_ML"])
    return {
        **environ,
        "AIRFLOW_CONN_AWS_REMOTE": json.dumps(aws),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({"conn_type": "aws", "extra": {"region_name": "us-east-2"}}),
        "GKE_API_ENDPOINT": google["extra"]["api_endpoint"],
        "AIRFLOW_HOME": str(scratch / "airflow"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _measured(arm: str, kind: str, environment: str, environ: Mapping[str, str]) -> Mapping[str, float]:
    binaries = _ROOT / environment / "bin"
    run = subprocess.run(
        [binaries / "python", "-W", "ignore", "-m", "bench.credential_subject", arm, kind],
        cwd=_ROOT,
        # Upstream's script calls Python by a name that it looks for on the path.
        env={**environ, "PATH": f"{binaries}:{environ.get('PATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(f"{arm} {kind} failed:\n{run.stdout}\n{run.stderr}")
    found: Mapping[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
