"""The smallest useful pod task: a command, labels, its output in the task's log, the pod removed when it has ended.

It names no cluster, so it runs in the one Airflow runs in or, elsewhere, in the current context of `$KUBECONFIG`
(`~/.kube/config` without it). Try it with `airflow dags test basic_pod`.

Environment:
    POD_NAMESPACE: where the pod goes; default that of the kubeconfig context, else `default`.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG

from kpo_multicluster.operators.pod import KubernetesPodOperator

with DAG("basic_pod", schedule=None, tags=["example"], doc_md=__doc__):
    KubernetesPodOperator(
        task_id="hello",
        # The pod's name, to which random characters are added: many runs may go on at once.
        name="hello",
        namespace=os.environ.get("POD_NAMESPACE"),
        image="alpine:3",
        # Replaces the image's entrypoint, as `command` does in a pod's manifest; `arguments` are its `args`.
        cmds=["sh", "-c"],
        arguments=['echo "Hello from a pod, in a run of $DAG"'],
        # Templates, as are `arguments`.
        env_vars={"DAG": "{{ dag.dag_id }}"},
        # Joins the labels that tell which task the pod belongs to: kubectl get pods -l app=hello,dag_id=basic_pod
        labels={"app": "hello", "env": "dev"},
        # These two are the defaults. "delete_succeeded_pod" and "keep_pod" leave a pod for a look at it.
        get_logs=True,
        on_finish_action="delete_pod",
    )
