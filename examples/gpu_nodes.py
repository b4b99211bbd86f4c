"""GPUs for one task, on each cloud: nodes that are there for the tasks of a `with` block, and gone after it.

`gpu_nodes` puts a task before those of its block, which makes a node group of EKS, a node pool of GKE or an agent pool
of AKS and waits until its GPUs can be asked for, and one behind them, which deletes it whatever became of them. No
worker waits meanwhile, as all of it is deferrable: docs/node-groups.md. `eks_node_group.py` has each step as a task of
its own.

There is a DAG for each cloud, `gpu_nodes_eks`, `gpu_nodes_gke` and `gpu_nodes_aks`; only the cluster and what its nodes
are to be differ. To use one as your own: put yours below, and leave out the others. Their rights, besides those of
`clouds_eks.py`, `clouds_gke.py` and `clouds_aks.py`: docs/node-groups.md.

Environment:
    AIRFLOW_CONN_AWS_REMOTE, AIRFLOW_CONN_GOOGLE_ML, AIRFLOW_CONN_AZURE_ML: as in these three.
    POD_NAMESPACE: where pods go; default `default`.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG

from kpo_multicluster.clouds import aks, eks, gke
from kpo_multicluster.node_groups.spec import AksNodes, EksNodes, GkeNodes, Gpu, NodeGroupSpec
from kpo_multicluster.node_groups.taints import Taint
from kpo_multicluster.operators.gpu_nodes import gpu_nodes
from kpo_multicluster.operators.pod import KubernetesPodOperator

# Keeps away pods that have no use for a GPU. GKE puts it on nodes with GPUs by itself.
TAINT = Taint("nvidia.com/gpu", "present")

ON_EKS = (
    eks(
        "gpu",
        region="us-east-2",
        conn_id="aws_remote",
        role_arn="arn:aws:iam::222222222222:role/airflow-pods",
        external_id="team-7",
    ),
    NodeGroupSpec(
        name="train",
        machine_types=("g4dn.xlarge",),
        gpu=Gpu(),
        taints=(TAINT,),
        options=EksNodes(
            node_role="arn:aws:iam::222222222222:role/eks-nodes", subnets=("subnet-0a1b2c3d", "subnet-4e5f6a7b")
        ),
    ),
)
ON_GKE = (
    gke(
        "gpu",
        project="my-project",
        location="europe-west1",
        conn_id="google_ml",
        impersonation_chain="pods@my-project.iam.gserviceaccount.com",
    ),
    # GKE gives each zone as many nodes, so that one zone is named for one node.
    NodeGroupSpec(
        name="train",
        machine_types=("g2-standard-4",),
        gpu=Gpu(type="nvidia-l4"),
        options=GkeNodes(zones=("europe-west1-b",)),
    ),
)
ON_AKS = (
    aks("gpu", resource_group="ml", conn_id="azure_ml"),
    NodeGroupSpec(
        name="train", machine_types=("Standard_NC4as_T4_v3",), gpu=Gpu(), taints=(TAINT,), options=AksNodes()
    ),
)

NODE_NAME: Any = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}

for kind, (cluster, spec) in {"eks": ON_EKS, "gke": ON_GKE, "aks": ON_AKS}.items():
    with DAG(f"gpu_nodes_{kind}", schedule=None, max_active_runs=1, tags=["example"], doc_md=__doc__):
        # Names no cluster, so that it runs in the one Airflow runs in, or in the current context of `$KUBECONFIG`.
        prepare = KubernetesPodOperator(
            task_id="prepare",
            namespace=os.environ.get("POD_NAMESPACE"),
            image="alpine:3",
            cmds=["echo"],
            arguments=["Prepared where Airflow is"],
        )

        with gpu_nodes(cluster=cluster, spec=spec, deferrable=True) as nodes:
            # Is given the node selector, the tolerations and the GPUs that put it on these nodes.
            KubernetesPodOperator(
                task_id="train",
                cluster=cluster,
                namespace=os.environ.get("POD_NAMESPACE"),
                image="alpine:3",
                cmds=["sh", "-c"],
                arguments=['echo "Trained on node $NODE_NAME"'],
                pod_runtime_info_envs=[NODE_NAME],
                deferrable=True,
            )

        prepare >> nodes.create
