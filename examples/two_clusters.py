"""One DAG whose tasks run on two clusters, `alpha` and `beta`, named in each of the ways there are.

All tasks may run at the same moment in the same process: none of them changes what another one sees.

Environment:
    KUBECONFIG: a kubeconfig with a context for each cluster; default `~/.kube/config`.
    ALPHA_CONTEXT, BETA_CONTEXT: the names of these contexts; default `alpha` and `beta`.
    POD_NAMESPACE: where pods go; default that of the context, else `default`.
    AIRFLOW_CONN_BETA_CLUSTER: the connection that one task uses, unless you make it under Admin > Connections, with
        the type Kubernetes and the same two fields. In JSON:
        {"conn_type": "kubernetes", "extra": {"kube_config_path": "/path/of/kubeconfig", "cluster_context": "beta"}}
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.operators.pod import KubernetesPodOperator

KUBECONFIG = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
ALPHA = os.environ.get("ALPHA_CONTEXT", "alpha")
BETA = os.environ.get("BETA_CONTEXT", "beta")

# What the tasks have in common: a pod that says which node of which cluster it runs on.
SAY_WHERE: dict[str, Any] = {
    "image": "alpine:3",
    "namespace": os.environ.get("POD_NAMESPACE"),
    "cmds": ["sh", "-c"],
    "arguments": ['echo "Running on node $NODE_NAME"'],
    "pod_runtime_info_envs": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
}

with DAG("two_clusters", schedule=None, tags=["example"], doc_md=__doc__):
    # By a reference to a cluster. It wins over every other way, and no connection is looked up.
    KubernetesPodOperator(task_id="alpha_by_cluster", cluster=kubeconfig(KUBECONFIG, context=ALPHA), **SAY_WHERE)
    KubernetesPodOperator(task_id="beta_by_cluster", cluster=kubeconfig(KUBECONFIG, context=BETA), **SAY_WHERE)

    # By the arguments that the upstream operator has too.
    KubernetesPodOperator(task_id="alpha_by_config_file", config_file=KUBECONFIG, cluster_context=ALPHA, **SAY_WHERE)
    # Without `config_file`, `$KUBECONFIG` it is.
    KubernetesPodOperator(task_id="beta_by_context", cluster_context=BETA, **SAY_WHERE)

    # By an Airflow connection.
    KubernetesPodOperator(task_id="beta_by_connection", kubernetes_conn_id="beta_cluster", **SAY_WHERE)
