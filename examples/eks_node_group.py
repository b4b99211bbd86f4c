"""GPUs for one task, step by step: make a node group on EKS, wait for it, use it, delete it, check that it is gone.

`gpu_nodes.py` does the same by one `with` block, and removes the nodes whatever becomes of the work. Written out like
this, each step is a task of its own, to put others between or to clear it alone.

To use it as your own: put your cluster, region, role, external id and node group below. Besides the rights of
`clouds_eks.py`, the role needs `eks:CreateNodegroup`, `eks:DescribeNodegroup`, `eks:ListNodegroups`,
`eks:DeleteNodegroup`, `eks:TagResource`, and `iam:PassRole` on the nodes' role; in the cluster, `list` on nodes.

Environment:
    AIRFLOW_CONN_AWS_REMOTE: as in `clouds_eks.py`.
    EKS_KUBECONFIG: a kubeconfig with a context for the cluster, as this writes it; default `~/.kube/config`:
        aws eks update-kubeconfig --region us-east-2 --name gpu --profile gpu --kubeconfig /path/of/config
        Its `aws eks get-token` is not run: the token is made in Airflow itself, with the credentials of that profile.
    EKS_CONTEXT: the name of that context; default the ARN of the cluster, as that command calls it.
    POD_NAMESPACE: where pods go; default `default`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from kpo_multicluster.clouds import eks
from kpo_multicluster.node_groups.eks_request import spec_of_request
from kpo_multicluster.node_groups.placement import placement_of
from kpo_multicluster.node_groups.spec import Gpu
from kpo_multicluster.operators.node_groups import CreateNodeGroupOperator, DeleteNodeGroupOperator
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.sensors.node_groups import NodeGroupSensor

CONFIG = os.environ.get("EKS_KUBECONFIG") or str(Path.home() / ".kube" / "config")
CONTEXT = os.environ.get("EKS_CONTEXT", "arn:aws:eks:us-east-2:222222222222:cluster/gpu")

GPU = eks(
    "gpu",
    region="us-east-2",
    conn_id="aws_remote",
    role_arn="arn:aws:iam::222222222222:role/airflow-pods",
    external_id="team-7",
)

# The arguments of EKS's own CreateNodegroup, by the names it gives them.
NODES = spec_of_request(
    {
        "nodegroupName": "gpu-nodes",
        "nodeRole": "arn:aws:iam::222222222222:role/eks-nodes",
        "subnets": ["subnet-0a1b2c3d", "subnet-4e5f6a7b"],
        "scalingConfig": {"minSize": 1, "maxSize": 1, "desiredSize": 1},
        "amiType": "AL2023_x86_64_NVIDIA",
        "instanceTypes": ["g4dn.xlarge"],
        "updateConfig": {"maxUnavailable": 1},
        # Keeps away pods that have no use for a GPU.
        "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
    },
    # EKS has no word for them.
    gpu=Gpu(count=1),
)

ON_GPU: dict[str, Any] = {
    "namespace": os.environ.get("POD_NAMESPACE"),
    "image": "alpine:3",
    "cmds": ["sh", "-c"],
    "arguments": ['echo "hello from $NODE_NAME"'],
    "pod_runtime_info_envs": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
    # The node selector, tolerations and GPUs that put a pod on these nodes.
    **placement_of(NODES).arguments(),
}

# Two runs at a time would share one group, which the first to end deletes.
with DAG("eks_node_group", schedule=None, max_active_runs=1, tags=["example"], doc_md=__doc__):
    create_gpu_nodegroup = CreateNodeGroupOperator(task_id="create_gpu_nodegroup", cluster=GPU, spec=NODES)

    # The task before has waited for this already; here it is for groups that something else makes.
    check_nodegroup_status = NodeGroupSensor(
        task_id="check_nodegroup_status", cluster=GPU, name=NODES.name, nodes=1, gpus=1
    )

    # The cluster by a kubeconfig that lies where the worker runs, and by one of its contexts, ...
    run_by_config_file = KubernetesPodOperator(
        task_id="run_by_config_file", config_file=CONFIG, cluster_context=CONTEXT, **ON_GPU
    )

    # ... and by a reference, which needs no file.
    run_by_cluster = KubernetesPodOperator(task_id="run_by_cluster", cluster=GPU, **ON_GPU)

    delete_gpu_nodegroup = DeleteNodeGroupOperator(
        task_id="delete_gpu_nodegroup", cluster=GPU, name=NODES.name, trigger_rule="all_done"
    )

    check_nodegroup_termination = NodeGroupSensor(
        task_id="check_nodegroup_termination", cluster=GPU, name=NODES.name, target="gone"
    )

    create_gpu_nodegroup >> check_nodegroup_status >> run_by_config_file >> run_by_cluster >> delete_gpu_nodegroup
    # Behind the work as well, so that the run fails when the work does: Airflow looks at a run's last tasks only.
    [delete_gpu_nodegroup, run_by_cluster] >> check_nodegroup_termination
