"""A pod on a GKE cluster, as a service account that another one may impersonate.

The cluster is looked up and its tokens are made in Airflow itself: there is no `gcloud` command, no
`gke-gcloud-auth-plugin`, no kubeconfig and no key in a file. Tokens are renewed for as long as the pod runs.

To use it as your own: put your cluster, project, location and service account below. The service account needs the role
`roles/container.clusterViewer`, and rights to pods by `roles/container.developer` or a Role of Kubernetes; the one of
the connection needs `roles/iam.serviceAccountTokenCreator` on it.

Environment:
    AIRFLOW_CONN_GOOGLE_ML: the connection whose credentials are used, unless you make it under Admin > Connections with
        the type Google Cloud. In JSON:
        {"conn_type": "google_cloud_platform", "extra": {"key_path": "/path/of/key.json"}}
        Without `conn_id` below, the worker's own identity is used: workload identity, or the metadata server.
    POD_NAMESPACE: where the pod goes; default `default`.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG

from kpo_multicluster.clouds import gke
from kpo_multicluster.operators.pod import KubernetesPodOperator

GPU = gke(
    "gpu",
    project="my-project",
    location="europe-west1",
    conn_id="google_ml",
    impersonation_chain="pods@my-project.iam.gserviceaccount.com",
)

with DAG("clouds_gke", schedule=None, tags=["example"], doc_md=__doc__):
    KubernetesPodOperator(
        task_id="on_gke",
        cluster=GPU,
        namespace=os.environ.get("POD_NAMESPACE"),
        image="alpine:3",
        cmds=["echo"],
        arguments=["Hello from a pod on GKE"],
    )
