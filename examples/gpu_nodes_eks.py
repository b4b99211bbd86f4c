"""GPUs for one task on EKS: a node group is there for the tasks of a `with` block, and gone after it.

`gpu_nodes` puts a task before those of its block, which makes the node group and waits until its GPUs can be asked for,
and one behind them, which deletes it whatever became of them: docs/node-groups.md.
`eks_node_group.py` has each step as a task of its own.

To use it as your own: put your cluster and node group below. Its rights are those of
`eks_node_group.py`.

Environment:
    AIRFLOW_CONN_AWS_REMOTE: as in `clouds_eks.py`.
    POD_NAMESPACE: where pods go; default `default`.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG

from kpo_multicluster.clouds import eks
from kpo_multicluster.node_groups.spec import EksNodes, Gpu, NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint
from kpo_multicluster.operators.gpu_nodes import gpu_nodes
from kpo_multicluster.operators.pod import KubernetesPodOperator

GPU = eks(
    "gpu",
    region="us-east-2",
    conn_id="aws_remote",
    role_arn="arn:aws:iam::222222222222:role/airflow-pods",
    external_id="team-7",
)
NODES = NodeGroupSpec(
    name="train",
    machine_types=("g4dn.xlarge",),
    gpu=Gpu(),
    taints=(Taint("nvidia.com/gpu", "present"),),
    options=EksNodes(
        node_role="arn:aws:iam::222222222222:role/eks-nodes",
        subnets=("subnet-0a1b2c3d", "subnet-4e5f6a7b"),
    ),
)
NODE_NAME: Any = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}

with DAG("gpu_nodes_eks", schedule=None, max_active_runs=1, tags=["example"], doc_md=__doc__):
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
