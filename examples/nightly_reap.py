"""Every night, removes the GPUs and pods that runs have left behind, as when a worker was killed or a run timed out.

Only what this package made for a run of a DAG is looked at, by the tags and annotations that it bears. Of that, what
belongs to a run that has ended is removed, and what is past its own end or older than half a day; what a run needs that
is under way stays. The task's log tells of each. `kpo-multicluster reap` does the same at the command line:
docs/node-groups.md.

To use it as your own: put your clusters below. Besides the rights of `gpu_nodes.py`, who asks needs `list` and `delete`
on pods.

Environment:
    AIRFLOW_CONN_AWS_REMOTE, AIRFLOW_CONN_GOOGLE_ML, AIRFLOW_CONN_AZURE_ML: as in `clouds_eks.py`, `clouds_gke.py` and
        `clouds_aks.py`.
    POD_NAMESPACE: where to look for pods; default in all namespaces.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone

from airflow.sdk import DAG

from kpo_multicluster.clouds import aks, eks, gke
from kpo_multicluster.operators.reap import ReapOperator

CLUSTERS = {
    "eks": eks(
        "gpu",
        region="us-east-2",
        conn_id="aws_remote",
        role_arn="arn:aws:iam::222222222222:role/airflow-pods",
        external_id="team-7",
    ),
    "gke": gke(
        "gpu",
        project="my-project",
        location="europe-west1",
        conn_id="google_ml",
        impersonation_chain="pods@my-project.iam.gserviceaccount.com",
    ),
    "aks": aks("gpu", resource_group="ml", conn_id="azure_ml"),
}

with DAG(
    "nightly_reap",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["example"],
    doc_md=__doc__,
):
    for name, cluster in CLUSTERS.items():
        ReapOperator(
            task_id=f"reap_{name}",
            cluster=cluster,
            namespace=os.environ.get("POD_NAMESPACE"),
            older_than_seconds=12 * 3600,
        )
