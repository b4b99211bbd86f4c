"""GPUs for one task on GKE: a node pool is there for the tasks of a `with` block, and gone after it.

`gpu_nodes` puts a task before those of its block, which makes the node pool and waits until its GPUs can be asked for,
and one behind them, which deletes it whatever became of them: docs/node-groups.md. No
worker waits meanwhile, as all of it is deferrable.

To use it as your own: put your cluster and node pool below. The service account needs the role
`roles/container.clusterAdmin`, and `roles/iam.serviceAccountUser` on the nodes' service account.

Environment:
    AIRFLOW_CONN_GOOGLE_ML: as in `clouds_gke.py`.
    POD_NAMESPACE: where pods go; default `default`.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG

from kpo_multicluster.clouds import gke
from kpo_multicluster.node_groups.spec import GkeNodes, Gpu, NodeGroupSpec
from kpo_multicluster.operators.gpu_nodes import gpu_nodes
from kpo_multicluster.operators.pod import KubernetesPodOperator

GPU = gke(
    "gpu",
    project="my-project",
    location="europe-west1",
    conn_id="google_ml",
    impersonation_chain="pods@my-project.iam.gserviceaccount.com",
)
NODES = NodeGroupSpec(
    name="train",
    machine_types=("g2-standard-4",),
    gpu=Gpu(type="nvidia-l4"),
    # GKE gives each zone as many nodes, so that one zone is named for one node. It taints nodes with GPUs by itself.
    options=GkeNodes(zones=("europe-west1-b",)),
)
NODE_NAME: Any = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}

with DAG("gpu_nodes_gke", schedule=None, max_active_runs=1, tags=["example"], doc_md=__doc__):
    # Names no cluster, so that it runs in the one Airflow runs in, or in the current context of `$KUBECONFIG`.
    prepare = KubernetesPodOperator(
        task_id="prepare",
        namespace=os.environ.get("POD_NAMESPACE"),
        image="alpine:3",
        cmds=["echo"],
        arguments=["Prepared where Airflow is"],
    )

    with gpu_nodes(cluster=GPU, spec=NODES, deferrable=True) as nodes:
        # Is given the node selector, the tolerations and the GPUs that put it on these nodes.
        KubernetesPodOperator(
            task_id="train",
            cluster=GPU,
            namespace=os.environ.get("POD_NAMESPACE"),
            image="alpine:3",
            cmds=["sh", "-c"],
            arguments=['echo "Trained on node $NODE_NAME"'],
            pod_runtime_info_envs=[NODE_NAME],
            deferrable=True,
        )

    prepare >> nodes.create
