"""A pod of the same arguments, built by the upstream operator and here."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

from kpo_multicluster.pods.labels import ATTEMPT_ANNOTATION, RUN_ANNOTATION, RunIdentity
from kpo_multicluster.pods.manifest import PodArguments, build_manifest

from .pod_cases import Arguments

# Not arguments of the operator: the run, and what a connection says.
_SURROUNDINGS = {
    "task_id": "task",
    "dag_id": "dag",
    "run_id": "manual__1",
    "map_index": -1,
    "cluster_namespace": None,
    "xcom_image": None,
    "xcom_resources": None,
    "xcom_security": None,
}


def upstream_operator(upstream: Any, arguments: Arguments, around: Arguments) -> Any:
    logging.getLogger("airflow.task").setLevel(logging.WARNING)
    operator = upstream(task_id=around["task_id"], **arguments)
    operator.name = operator._set_name(operator.name)
    operator.__dict__["hook"] = SimpleNamespace(
        is_in_cluster=True,
        get_namespace=lambda: around["cluster_namespace"],
        get_xcom_sidecar_container_image=lambda: around["xcom_image"],
        get_xcom_sidecar_container_resources=lambda: around["xcom_resources"],
        get_xcom_sidecar_container_security_context=lambda: around["xcom_security"],
    )
    return operator


def context(around: Arguments) -> Any:
    instance = SimpleNamespace(
        dag_id=around["dag_id"], task_id=around["task_id"], map_index=around["map_index"], try_number=2
    )
    return {"ti": instance, "run_id": around["run_id"], "dag": SimpleNamespace()}


def theirs(upstream: Any, arguments: Arguments, around: Arguments) -> Any:
    return sent(upstream_operator(upstream, arguments, around).build_pod_request_obj(context(around)))


def sent(pod: Any) -> Any:
    """What the client sends for a model object."""
    from kubernetes import client

    api_client: Any = client.ApiClient()
    return json.loads(json.dumps(api_client.sanitize_for_serialization(pod)))


def identity(around: Arguments) -> RunIdentity:
    from airflow.version import version

    return RunIdentity(
        **{name: around[name] for name in ("task_id", "dag_id", "run_id", "map_index", "cluster_namespace")},
        airflow_version=version,
        try_number=2,
        attempt="0190",
        in_cluster=True,
    )


def pod_arguments(arguments: Arguments, around: Arguments) -> PodArguments:
    sidecar = {
        "xcom_sidecar_container_image": around["xcom_image"],
        "xcom_sidecar_container_resources": around["xcom_resources"],
        "xcom_sidecar_container_security_context": around["xcom_security"],
    }
    return PodArguments(**{**sidecar, **arguments})


def ours(arguments: Arguments, around: Arguments) -> Any:
    pod = build_manifest(pod_arguments(arguments, around), identity(around))
    assert pod["metadata"]["annotations"].pop(ATTEMPT_ANNOTATION) == "0190"
    assert "/" in pod["metadata"]["annotations"].pop(RUN_ANNOTATION, "/")
    return pod


def split(case: Arguments) -> tuple[Arguments, Arguments]:
    around = {name: case.get(name, default) for name, default in _SURROUNDINGS.items()}
    return {name: value for name, value in case.items() if name not in _SURROUNDINGS}, around
