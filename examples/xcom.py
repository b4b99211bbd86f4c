"""Data into a pod and out of it: extract a number, let a pod multiply it by 23, load the product.

What the pod's program writes to `/airflow/xcom/return.json` becomes the task's XCom. The program and the recipe of its
image are in `examples/multiply/`. Before it can run on a cluster of yours:

    docker build --tag REGISTRY/multiply-by-23:1 examples/multiply
    docker push REGISTRY/multiply-by-23:1

Environment:
    MULTIPLY_IMAGE: the image, as pushed above.
    POD_NAMESPACE: where the pod goes; default that of the kubeconfig context, else `default`.
"""

from __future__ import annotations

import os
import random
from typing import Any

from airflow.sdk import dag, task

from kpo_multicluster.operators.pod import KubernetesPodOperator

IMAGE = os.environ.get("MULTIPLY_IMAGE", "multiply-by-23:1")


@task
def extract_data() -> int:
    """Stands for a query of a database."""
    return random.randint(0, 100)


@task
def load_data(data_point: Any, transformed: Any) -> str:
    """Stands for a write to one; refuses a wrong product."""
    product = transformed["product"]
    if product != 23 * data_point:
        raise ValueError(f"The pod returned {product}, but 23 * {data_point} is {23 * data_point}.")
    return f"23 * {data_point} = {product}"


@dag(schedule=None, tags=["example"], doc_md=__doc__)
def xcom() -> None:
    """Extracts, transforms in a pod, loads."""
    data_point = extract_data()
    transform = KubernetesPodOperator(
        task_id="transform",
        image=IMAGE,
        name="transform",
        namespace=os.environ.get("POD_NAMESPACE"),
        get_logs=True,
        log_events_on_failure=True,
        # `env_vars` is a template.
        env_vars={"DATA_POINT": "{{ ti.xcom_pull(task_ids='extract_data') }}"},
        # Adds a container to the pod that keeps the result readable until it was fetched. A program that then writes no
        # result fails the task.
        do_xcom_push=True,
    )
    data_point >> transform
    load_data(data_point, transform.output)


xcom()
