"""A pod on an AKS cluster that is integrated with Microsoft Entra, as a service principal.

The cluster is looked up and its tokens are made in Airflow itself: there is no `az` command, no `kubelogin`, no
kubeconfig and no key in a file. Tokens are renewed for as long as the pod runs.

To use it as your own: put your cluster and resource group below. The service principal needs the role `Azure Kubernetes
Service Cluster User Role`, and rights to pods by `Azure Kubernetes Service RBAC Writer` or a Role of Kubernetes that is
bound to its object id.

Environment:
    AIRFLOW_CONN_AZURE_ML: the connection whose credentials are used, unless you make it under Admin > Connections with
        the type Azure. In JSON: {"conn_type": "azure", "login": "client id", "password": "client secret",
        "extra": {"tenantId": "...", "subscriptionId": "..."}}
        Without login and password, the worker's own identity is used: a workload identity or a managed one.
    POD_NAMESPACE: where the pod goes; default `default`.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG

from kpo_multicluster.clouds import aks
from kpo_multicluster.operators.pod import KubernetesPodOperator

GPU = aks("gpu", resource_group="ml", conn_id="azure_ml")

with DAG("clouds_aks", schedule=None, tags=["example"], doc_md=__doc__):
    KubernetesPodOperator(
        task_id="on_aks",
        cluster=GPU,
        namespace=os.environ.get("POD_NAMESPACE"),
        image="alpine:3",
        cmds=["echo"],
        arguments=["Hello from a pod on AKS"],
    )
