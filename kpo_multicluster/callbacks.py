"""Callbacks of a pod task, with upstream's names and arguments.

Every callback is a static method that is called with keyword arguments, on the main thread of the task. An exception in
one fails the task. They are called in the order in which they stand here.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import Context
    from kubernetes import client as k8s

    from kpo_multicluster.operators.pod import KubernetesPodOperator


class ExecutionMode(str, Enum):
    """Where a callback is called: in the worker or in the triggerer."""

    SYNC = "sync"
    ASYNC = "async"


class KubernetesPodOperatorCallback:
    """Override what is needed; every method does nothing."""

    @staticmethod
    def on_sync_client_creation(*, client: k8s.CoreV1Api, operator: KubernetesPodOperator, **kwargs: Any) -> None:
        """A client for callbacks was made.

        Args:
            client: with the credentials of the task's cluster.
            operator: the task's.
            kwargs: more may come.
        """

    @staticmethod
    def on_pod_manifest_created(
        *,
        pod_request: k8s.V1Pod,
        client: k8s.CoreV1Api,
        mode: str,
        operator: KubernetesPodOperator,
        context: Context,
        **kwargs: Any,
    ) -> None:
        """The manifest is complete; what is changed in `pod_request` is created so.

        Args:
            pod_request: the pod to be created.
            client: with the credentials of the task's cluster.
            mode: an `ExecutionMode`.
            operator: the task's.
            context: of the task.
            kwargs: more may come.
        """

    @staticmethod
    def on_pod_creation(
        *,
        pod: k8s.V1Pod,
        client: k8s.CoreV1Api,
        mode: str,
        operator: KubernetesPodOperator,
        context: Context,
        **kwargs: Any,
    ) -> None:
        """The pod was created, or one of an earlier try is gone on with."""

    @staticmethod
    def on_pod_starting(
        *,
        pod: k8s.V1Pod,
        client: k8s.CoreV1Api,
        mode: str,
        operator: KubernetesPodOperator,
        context: Context,
        **kwargs: Any,
    ) -> None:
        """The base container has started."""

    @staticmethod
    def progress_callback(
        *,
        line: str,
        client: k8s.CoreV1Api,
        mode: str,
        container_name: str,
        timestamp: datetime | None,
        pod: k8s.V1Pod,
        **kwargs: Any,
    ) -> None:
        """A container wrote a line.

        Args:
            line: without its line end.
            client: with the credentials of the task's cluster.
            mode: an `ExecutionMode`.
            container_name: who wrote it.
            timestamp: when, in UTC.
            pod: as last seen.
            kwargs: more may come.
        """

    @staticmethod
    def on_pod_completion(
        *,
        pod: k8s.V1Pod,
        client: k8s.CoreV1Api,
        mode: str,
        operator: KubernetesPodOperator,
        context: Context,
        **kwargs: Any,
    ) -> None:
        """The base container has ended, well or not."""

    @staticmethod
    def on_pod_teardown(
        *,
        pod: k8s.V1Pod,
        client: k8s.CoreV1Api,
        mode: str,
        operator: KubernetesPodOperator,
        context: Context,
        **kwargs: Any,
    ) -> None:
        """Follows `on_pod_completion`, before the result is read."""

    @staticmethod
    def on_pod_cleanup(
        *,
        pod: k8s.V1Pod,
        client: k8s.CoreV1Api,
        mode: str,
        operator: KubernetesPodOperator,
        context: Context,
        **kwargs: Any,
    ) -> None:
        """The pod was removed, or kept as `on_finish_action` says. Called for failed runs too, before their error."""

    @staticmethod
    def on_operator_resuming(
        *,
        pod: k8s.V1Pod,
        event: dict[str, Any],
        client: k8s.CoreV1Api,
        mode: str,
        operator: KubernetesPodOperator,
        context: Context,
        **kwargs: Any,
    ) -> None:
        """A deferred task goes on in a worker.

        Args:
            pod: as last seen.
            event: the trigger's.
            client: with the credentials of the task's cluster.
            mode: an `ExecutionMode`.
            operator: the task's.
            context: of the task.
            kwargs: more may come.
        """
