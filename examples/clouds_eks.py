"""A pod on an EKS cluster of another AWS account, which a role there gives access to.

Airflow signs in to its own account, assumes the role in the cluster's, and makes the cluster's tokens itself: there is
no `aws` command, no kubeconfig and no key in a file. Tokens are renewed for as long as the pod runs.

To use it as your own: put your cluster, region, role and external id below. The role needs the right
`eks:DescribeCluster`, and an access entry in the cluster (`aws eks create-access-entry`) with rights to pods.

Environment:
    AIRFLOW_CONN_AWS_REMOTE: the connection whose credentials assume the role, unless you make it under Admin >
        Connections with the type Amazon Web Services. In JSON:
        {"conn_type": "aws", "login": "access key id", "password": "secret access key"}
        Without `conn_id` below, the worker's own identity does: IRSA, Pod Identity, an instance role.
    POD_NAMESPACE: where the pod goes; default `default`.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG

from kpo_multicluster.clouds import eks
from kpo_multicluster.operators.pod import KubernetesPodOperator

GPU = eks(
    "gpu",
    region="us-east-2",
    conn_id="aws_remote",
    role_arn="arn:aws:iam::222222222222:role/airflow-pods",
    external_id="team-7",
)

with DAG("clouds_eks", schedule=None, tags=["example"], doc_md=__doc__):
    KubernetesPodOperator(
        task_id="on_eks",
        cluster=GPU,
        namespace=os.environ.get("POD_NAMESPACE"),
        image="alpine:3",
        cmds=["echo"],
        arguments=["Hello from a pod on EKS"],
    )
