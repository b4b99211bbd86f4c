"""Modules by upstream's names, and exceptions that code written for upstream catches."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from airflow.exceptions import AirflowException as OldAirflowException  # type: ignore[attr-defined]

from kpo_multicluster import errors, exceptions
from kpo_multicluster.airflow_names import AirflowException, AirflowSkipException
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.raised import airflow_errors, as_airflow
from kpo_multicluster.secret import Secret
from kpo_multicluster.testing.cluster import EmbeddedCluster
from kpo_multicluster.utils.pod_manager import PodManager, PodPhase

from .conftest import Ran, gone

Run = Callable[..., Ran]

# What DAGs import of upstream, by the module it is in.
MIRRORS = {
    "callbacks": ["ExecutionMode", "KubernetesPodOperatorCallback"],
    "exceptions": [
        "KubernetesApiError",
        "KubernetesApiPermissionError",
        "PodMutationHookException",
        "PodReconciliationError",
    ],
    "hooks.kubernetes": ["KubernetesHook"],
    "kubernetes_helper_functions": ["KubernetesApiException", "PodLaunchFailedException"],
    "operators.pod": [
        "FoundMoreThanOnePodFailure",
        "KUBE_CONFIG_ENV_VAR",
        "KubernetesPodOperator",
        "POD_IDENTIFIER_STATE_KEY",
        "PodCredentialsExpiredFailure",
        "PodEventType",
        "PodReattachFailure",
    ],
    "secret": ["Secret"],
    "triggers.pod": ["ContainerState", "KubernetesPodTrigger"],
    "utils.pod_manager": [
        "EMPTY_XCOM_RESULT",
        "OnFinishAction",
        "OnKillAction",
        "PodCommandException",
        "PodLaunchFailedException",
        "PodLaunchTimeoutException",
        "PodManager",
        "PodNotFoundException",
        "PodPhase",
        "XComRetrievalError",
    ],
}


@pytest.mark.parametrize("module", MIRRORS)
def test_a_module_has_what_is_imported_from_upstream_s(module: str) -> None:
    mirror = importlib.import_module(f"kpo_multicluster.{module}")
    assert [name for name in MIRRORS[module] if not hasattr(mirror, name)] == []


def test_none_of_them_is_heavy_to_import() -> None:
    modules = ", ".join(f"kpo_multicluster.{module}" for module in MIRRORS)
    code = f"import sys, {modules}; print(*({{'kubernetes', 'aiohttp'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=110)
    assert done.stdout.strip() == ""


def test_what_is_not_there_says_so() -> None:
    made: Callable[..., Any] = PodManager
    with pytest.raises(ConfigurationError, match="kpo_multicluster"):
        made(kube_client=None)


def test_phases() -> None:
    assert PodPhase.terminal_states == {"Succeeded", "Failed"}
    assert {PodPhase.PENDING, PodPhase.RUNNING, PodPhase.UNKNOWN} == {"Pending", "Running", "Unknown"}


# -- exceptions ------------------------------------------------------------------------------------------------------


class NewerError(errors.PodFailedError):
    """Stands for an error that the table does not know."""


API = (exceptions.KubernetesApiError, exceptions.KubernetesApiException)
RAISED: list[tuple[KpoMulticlusterError, tuple[type[AirflowException], ...]]] = [
    (errors.PodStartTimeoutError("x"), (exceptions.PodLaunchTimeoutException,)),
    (errors.PodStartError("x"), (exceptions.PodLaunchFailedException,)),
    (errors.PodFailedError("x", reason="OOMKilled", exit_code=137), ()),
    (errors.PodLostError("x", cause="deleted"), (exceptions.PodNotFoundException,)),
    (errors.PodLostError("x", cause="evicted"), ()),
    (errors.PodRunError("x"), ()),
    (errors.XComError("x"), (exceptions.XComRetrievalError,)),
    (errors.ExecError("x", exit_code=3), (exceptions.PodCommandException,)),
    (errors.CredentialError("x"), (exceptions.PodCredentialsExpiredFailure,)),
    (errors.ExecPluginError("x"), (exceptions.PodCredentialsExpiredFailure,)),
    (errors.UnauthorizedError(401, request="x"), (exceptions.PodCredentialsExpiredFailure, *API)),
    (errors.ForbiddenError(403, request="x"), (exceptions.KubernetesApiPermissionError, *API)),
    (errors.NotFoundError(404, request="x"), API),
    (errors.ServerError(503, request="x", retry_after_seconds=2), API),
    (errors.ConnectError("x"), API),
    (errors.TLSError("x"), API),
    (errors.ConfigurationError("x"), ()),
    (errors.MissingExtraError("x", "eks"), ()),
    (NewerError("x"), ()),
]
UPSTREAM = [
    value
    for value in vars(exceptions).values()
    if isinstance(value, type) and issubclass(value, AirflowException) and value is not AirflowException
]


@pytest.mark.parametrize(("error", "names"), RAISED, ids=lambda value: type(value).__name__)
def test_what_an_error_leaves_a_task_as(error: KpoMulticlusterError, names: tuple[type[AirflowException], ...]) -> None:
    kind, attributes, cause = type(error), dict(vars(error)), ValueError()
    with pytest.raises(kind) as raised, airflow_errors():
        raise error from cause
    assert raised.value is error
    assert isinstance(error, AirflowException)
    assert issubclass(AirflowException, OldAirflowException)
    assert [name for name in UPSTREAM if isinstance(error, name)] == [name for name in UPSTREAM if name in names]
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert error.__cause__ is cause
    assert f"{type(error).__module__}.{type(error).__qualname__}" == f"{kind.__module__}.{kind.__qualname__}"
    assert str(error) == str(error.args[0])
    assert as_airflow(error) is error
    sent = pickle.loads(pickle.dumps(error))
    assert type(sent) is type(error)
    assert (str(sent), vars(sent)) == (str(error), vars(error))


def test_other_exceptions_stay_what_they_are() -> None:
    with pytest.raises(AirflowSkipException), airflow_errors():
        raise AirflowSkipException
    with pytest.raises(KeyError), airflow_errors():
        raise KeyError


def test_every_engine_error_has_its_place_in_the_table() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(kinds) >= 27
    for kind in kinds:
        made: Any = kind.__new__(kind)
        made.cause = "deleted"
        assert isinstance(as_airflow(made), (kind, AirflowException))


@pytest.mark.parametrize(
    ("script", "arguments", "upstream", "ours"),
    [
        ("exit 3", {}, AirflowException, errors.PodFailedError),
        (
            "true",
            {"node_selector": {"gpu": "yes"}, "schedule_timeout_seconds": 0.2},
            exceptions.PodLaunchTimeoutException,
            errors.PodStartTimeoutError,
        ),
        (
            "true",
            {"init_containers": [{"name": "first", "image": "alpine:3", "command": ["false"]}]},
            exceptions.PodLaunchFailedException,
            errors.PodStartError,
        ),
        (
            "echo { > /airflow/xcom/return.json",
            {"do_xcom_push": True},
            exceptions.XComRetrievalError,
            errors.XComError,
        ),
        (
            "true",
            {"volume_mounts": [{"name": "v", "mountPath": "/v"}]},
            exceptions.KubernetesApiError,
            errors.InvalidError,
        ),
        ("true", {"namespace": "nowhere"}, exceptions.KubernetesApiException, errors.NotFoundError),
        ("true", {"pod_template_file": "/no/such.yaml"}, AirflowException, errors.ConfigurationError),
    ],
)
def test_a_run_raises_what_both_expect(
    cluster: EmbeddedCluster,
    run: Run,
    script: str,
    arguments: dict[str, Any],
    upstream: type[Exception],
    ours: type[Exception],
) -> None:
    with pytest.raises(upstream) as raised:
        run(script, **arguments)
    assert isinstance(raised.value, ours)
    assert isinstance(raised.value, AirflowException)
    cluster.wait_until(gone)


def test_a_refused_request_and_refused_credentials(cluster: EmbeddedCluster, run: Run) -> None:
    with cluster.faults.answer("^create ", 403), pytest.raises(exceptions.KubernetesApiPermissionError):
        run()
    with (
        cluster.faults.answer("^list ", 401, times=None),
        pytest.raises(exceptions.PodCredentialsExpiredFailure, match="token"),
    ):
        run()


# -- Secret ----------------------------------------------------------------------------------------------------------


def test_secrets_reach_the_container(cluster: EmbeddedCluster, ref: ClusterRef, run: Run) -> None:
    hook = KubernetesHook(cluster=ref)
    body: Any = {"metadata": {"name": "vault"}, "stringData": {"one": "1", "TWO": "2"}}
    with hook.api_client:
        hook.core_v1_client.create_namespaced_secret("default", body)
        secrets = [
            Secret("env", "first", "vault", "one"),
            Secret("env", None, "vault"),
            Secret("volume", "/vault", "vault", items=[{"key": "one", "path": "file"}]),
        ]
        try:
            run('[ "$FIRST$TWO$(cat /vault/file)" = 121 ]', secrets=secrets)
        finally:
            hook.core_v1_client.delete_namespaced_secret("vault", "default")


def test_attaching_a_secret_leaves_the_pod_as_it_was() -> None:
    from kubernetes.client import models

    container = models.V1Container(name="base", image="alpine:3")
    pod = models.V1Pod(spec=models.V1PodSpec(containers=[container]))
    for secret in (Secret("env", "A", "s", "k"), Secret("env", None, "s"), Secret("volume", "/s", "s")):
        attached: Any = secret.attach_to_pod(secret.attach_to_pod(pod)).spec
        lists = (attached.containers[0].env, attached.containers[0].env_from, attached.containers[0].volume_mounts)
        assert [len(entries) for entries in lists if entries] == [2]
    assert container.env is container.env_from is container.volume_mounts is None


def test_equal_secrets() -> None:
    one, same = Secret("env", "a", "s", "k"), Secret("env", "A", "s", "k", items=["ignored"])
    assert one == same
    assert len({one, same, Secret("env", "B", "s", "k")}) == 2
    assert one.deploy_target == "A"
    assert one.items == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("file", "/x", "s"), "deploy_type of a Secret must be 'env' or 'volume', not 'file'"),
        (("env", None, "s", "k"), "'s' needs a deploy_target: the variable's name"),
        (("volume", None, "s"), "'s' needs a deploy_target: the directory"),
    ],
)
def test_secrets_that_cannot_be(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Secret(*arguments)
