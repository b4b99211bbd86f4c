"""A task in another language: a pod runs a Haskell program, which greets whom an environment variable names.

The program and the recipe of its image are in `examples/haskell/`. Before it can run on a cluster of yours:

    docker build --tag REGISTRY/haskell-hello:1 examples/haskell
    docker push REGISTRY/haskell-hello:1

Environment:
    HASKELL_IMAGE: the image, as pushed above.
    NAME_TO_GREET: whom to greet.
    POD_NAMESPACE: where the pod goes; default that of the kubeconfig context, else `default`.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG

from kpo_multicluster.operators.pod import KubernetesPodOperator

IMAGE = os.environ.get("HASKELL_IMAGE", "haskell-hello:1")
NAME = os.environ.get("NAME_TO_GREET", "Haskell Curry")

with DAG("haskell_hello", schedule=None, tags=["example"], doc_md=__doc__):
    KubernetesPodOperator(
        task_id="say_hello_name_in_haskell",
        # Neither `cmds` nor `arguments`: the image's own command runs.
        image=IMAGE,
        namespace=os.environ.get("POD_NAMESPACE"),
        name="haskell-hello",
        # Random characters after the name keep it unique in the namespace.
        random_name_suffix=True,
        labels={"app": "backend", "env": "dev"},
        # A worker that dies leaves the pod running; the task's next try goes on with it instead of starting another.
        reattach_on_restart=True,
        # Delete the pod when the task has ended. In older DAGs this is is_delete_operator_pod=True.
        on_finish_action="delete_pod",
        # What the program prints becomes the task's log, as it is printed.
        get_logs=True,
        # If the pod fails, what Kubernetes has to say about it follows in the task's log.
        log_events_on_failure=True,
        env_vars={"NAME_TO_GREET": NAME},
    )
