"""Python functions in pods: `@task.pod` sends a function to a pod and brings its result back; `@task.pod_cmd` runs the
command that a function returns.

The image of `@task.pod` needs Python 3.6 or newer, and nothing of Airflow. A function uses its arguments and what it
imports itself: nothing else of this file is there in the pod.

Environment:
    PYTHON_IMAGE: the image that functions run in; default `python:3.12-slim`.
    POD_NAMESPACE: where pods go; default that of the kubeconfig context, else `default`.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, task

IMAGE = os.environ.get("PYTHON_IMAGE", "python:3.12-slim")
NAMESPACE = os.environ.get("POD_NAMESPACE")

with DAG("task_pod", schedule=None, tags=["example"], doc_md=__doc__):
    # `cluster=` would say on which cluster it runs, as for any operator of this package.
    @task.pod(image=IMAGE, namespace=NAMESPACE, multiple_outputs=True)
    def measure(text: str) -> dict[str, Any]:
        """Runs in a pod; each key of what it returns becomes an XCom."""
        import platform

        words = text.split()
        print(f"Python {platform.python_version()} counts {len(words)} words")
        return {"words": len(words), "longest": max(words, key=len)}

    @task.pod_cmd(image=IMAGE, namespace=NAMESPACE)
    def tell(words: int, longest: str) -> list[str]:
        """Runs where the task does; what it returns, runs in a pod."""
        return ["echo", f"{words} words, of which {longest} is the longest"]

    measured: Any = measure("one pod may hold multitudes of {{ dag.dag_id }}")
    tell(measured["words"], measured["longest"])
