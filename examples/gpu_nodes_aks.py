"""GPUs for one task on AKS: an agent pool is there for the tasks of a `with` block, and gone after it.

`gpu_nodes` puts a task before those of its block, which makes the agent pool and waits until its GPUs can be asked for,
and one behind them, which deletes it whatever became of them: docs/node-groups.md.

To use it as your own: put your cluster and agent pool below. The service principal needs the role `Azure
Kubernetes Service Contributor Role` on the cluster; in the cluster, `list` on nodes.

Environment:
    AIRFLOW_CONN_AZURE_ML: as in `clouds_aks.py`.
    POD_NAMESPACE: where pods go; default `default`.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG

from kpo_multicluster.clouds import aks
from kpo_multicluster.node_groups.spec import AksNodes, Gpu, NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint
from kpo_multicluster.operators.gpu_nodes import gpu_nodes
from kpo_multicluster.operators.pod import KubernetesPodOperator

GPU = aks("gpu", resource_group="ml", conn_id="azure_ml")
NODES = NodeGroupSpec(
    name="train",
    machine_types=("Standard_NC4as_T4_v3",),
    gpu=Gpu(),
    taints=(Taint("nvidia.com/gpu", "present"),),
    options=AksNodes(),
)
NODE_NAME: Any = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}

with DAG("gpu_nodes_aks", schedule=None, max_active_runs=1, tags=["example"], doc_md=__doc__):
    # Names no cluster, so that it runs in the one Airflow runs in, or in the current context of `$KUBECONFIG`.
    prepare = KubernetesPodOperator(
        task_id="prepare",
        namespace=os.environ.get("POD_NAMESPACE"),
        image="alpine:3",
        cmds=["echo"],
        arguments=["Prepared where Airflow is"],
    )

    with gpu_nodes(cluster=GPU, spec=NODES) as nodes:
        # Is given the node selector, the tolerations and the GPUs that put it on these nodes.
        KubernetesPodOperator(
            task_id="train",
            cluster=GPU,
            namespace=os.environ.get("POD_NAMESPACE"),
            image="alpine:3",
            cmds=["sh", "-c"],
            arguments=['echo "Trained on node $NODE_NAME"'],
            pod_runtime_info_envs=[NODE_NAME],
        )

    prepare >> nodes.create
