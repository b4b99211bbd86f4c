"""A pod that no worker waits for: Airflow's triggerer does, for thousands at a time.

One worker creates the pod and lets go of the task, another finishes it when the pod has ended: docs/deferrable.md. What
a task names, such as a kubeconfig, must be there for the triggerer as it is for the workers.

Environment:
    POD_NAMESPACE: where the pod goes; default that of the kubeconfig context, else `default`.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG

from kpo_multicluster.operators.pod import KubernetesPodOperator

with DAG("deferrable", schedule=None, tags=["example"], doc_md=__doc__):
    KubernetesPodOperator(
        task_id="wait_without_a_worker",
        namespace=os.environ.get("POD_NAMESPACE"),
        image="alpine:3",
        cmds=["sh", "-c"],
        arguments=['for part in 1 2 3; do echo "part $part of 3"; sleep 0.2; done'],
        deferrable=True,
        # The triggerer writes what the pod prints as it comes. Without this, it is in the log when the pod has ended.
        logging_interval=10,
    )
