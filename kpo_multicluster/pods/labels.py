"""Labels that tell which run a pod belongs to, and the selector that finds it again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

POD_CHECKED_KEY: Final = "already_checked"
POD_CHECKED_VALUE: Final = "True"
ATTEMPT_ANNOTATION: Final = "kpo-multicluster/attempt"
RUN_ANNOTATION: Final = "kpo-multicluster/run"

_VALUE_LIMIT = 63
_HASH_LENGTH = 9
_UNSAFE = re.compile(r"^[^a-z0-9A-Z]*|[^a-zA-Z0-9_\-\.]|[^a-z0-9A-Z]*$")


@dataclass(frozen=True)
class RunIdentity:
    """Which try of which task a pod is made for, and what is known of where it goes.

    Attributes:
        task_id: of the task; names the pod when nothing else does.
        airflow_version: of the Airflow that runs the task.
        dag_id: of its DAG.
        run_id: of the DAG run; None in a dry run, where there is no run to identify.
        map_index: of a mapped task instance; negative otherwise.
        try_number: counted from 1.
        attempt: the id of the task instance, which differs from try to try; empty leaves the annotation out.
        in_cluster: whether the credentials are those of the pod Airflow itself runs in; None leaves the label out.
        cluster_namespace: the namespace of the connection, or of the kubeconfig context, or of Airflow's own pod:
            where the pod goes when neither the arguments nor a template name one.
    """

    task_id: str
    airflow_version: str
    dag_id: str = ""
    run_id: str | None = None
    map_index: int = -1
    try_number: int = 1
    attempt: str = ""
    in_cluster: bool | None = None
    cluster_namespace: str | None = None


def safe_label_value(value: str) -> str:
    """A valid label value (at most 63 of letters, digits, `-`, `_`, `.`), unlike that of any other text.

    A text that is valid already stays as it is. Another loses what is not allowed and gets a dash and nine hexadecimal
    digits of its MD5, as the upstream operator does it: pods of either find each other.
    """
    safe = _UNSAFE.sub("", value)
    if len(safe) <= _VALUE_LIMIT and safe == value:
        return safe
    digest = hashlib.md5(value.encode(), usedforsecurity=False).hexdigest()[:_HASH_LENGTH]
    return f"{safe[: _VALUE_LIMIT - _HASH_LENGTH - 1]}-{digest}"


def label_text(value: Any) -> str:
    """A label's value as text; nothing becomes the empty value."""
    return "" if value is None else str(value)


def identity_labels(run: RunIdentity) -> dict[str, str]:
    """The labels that stay the same through all tries of one task instance; none in a dry run."""
    if run.run_id is None:
        return {}
    labels = {
        "dag_id": run.dag_id,
        "task_id": run.task_id,
        "run_id": run.run_id,
        "kubernetes_pod_operator": "True",
    }
    if run.map_index >= 0:
        labels["map_index"] = str(run.map_index)
    return {key: safe_label_value(value) for key, value in labels.items()}


def run_annotations(run: RunIdentity) -> dict[str, str]:
    """The annotations that this package puts on a pod; none in a dry run.

    A label's value cannot hold what most runs are called, so the run is named in full here.
    """
    if not run.attempt:
        return {}
    named = {} if run.run_id is None else {RUN_ANNOTATION: f"{run.dag_id}/{run.run_id}"}
    return {ATTEMPT_ANNOTATION: run.attempt, **named}


def run_labels(run: RunIdentity) -> dict[str, str]:
    """All labels that this package puts on a pod."""
    labels = identity_labels(run)
    if labels:
        labels["try_number"] = safe_label_value(str(run.try_number))
    labels["airflow_version"] = run.airflow_version.replace("+", "-")
    if run.in_cluster is not None:
        labels["airflow_kpo_in_cluster"] = str(run.in_cluster)
    return labels


def pod_selector(labels: Mapping[str, Any] | None, run: RunIdentity, *, exclude_checked: bool = True) -> str:
    """The label selector that finds the pods of a task instance, whatever the try.

    Args:
        labels: the user's own, as given to the operator.
        run: whose pods.
        exclude_checked: leave out pods that a try has already drawn its conclusion from.
    """
    wanted = {key: label_text(value) for key, value in (labels or {}).items()} | identity_labels(run)
    terms = [f"{key}={value}" for key, value in sorted(wanted.items())]
    if exclude_checked:
        terms.append(f"{POD_CHECKED_KEY}!={POD_CHECKED_VALUE}")
    return ",".join([*terms, "!airflow-worker"])
