"""Steps that a subclass overrides take effect, on the main thread, with pods that read like a `V1Pod`."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from kpo_multicluster.airflow_names import AirflowException
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, PodFailedError, PodRunError, PodStartTimeoutError
from kpo_multicluster.exceptions import PodLaunchTimeoutException, XComRetrievalError
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.operators.objects import as_pod
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import FakeTaskInstance, Ran, context_of, gone, quiet

Run = Callable[..., Ran]


@dataclass
class Call:
    """One call of an overridden step."""

    step: str
    thread: str
    pods: list[Any]


@dataclass
class Recorder:
    calls: list[Call] = field(default_factory=list)

    def note(self, step: str, *pods: Any) -> None:
        self.calls.append(Call(step, threading.current_thread().name, list(pods)))

    @property
    def steps(self) -> list[str]:
        return [call.step for call in self.calls]


STEPS = (
    "execute",
    "execute_sync",
    "build_pod_request_obj",
    "get_or_create_pod",
    "find_pod",
    "await_pod_start",
    "await_init_containers_completion",
    "await_pod_completion",
    "extract_xcom",
    "post_complete_action",
    "cleanup",
    "process_pod_deletion",
    "patch_already_checked",
)


def recording(base: type[KubernetesPodOperator], recorder: Recorder, *steps: str) -> type[KubernetesPodOperator]:
    """A subclass whose steps are noted, and then done as before."""

    def overridden(step: str) -> Callable[..., Any]:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            given = [*args, *kwargs.values()]
            recorder.note(step, *(value for value in given if isinstance(value, dict) and "metadata" in value))
            return getattr(super(made, self), step)(*args, **kwargs)

        return method

    made = type("Overriding", (base,), {step: overridden(step) for step in steps})
    return made


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def run_as(ref: ClusterRef) -> Callable[..., Ran]:
    """Runs an operator of a given class."""

    def run(kind: type[KubernetesPodOperator], script: str = "true", **arguments: Any) -> Ran:
        defaults = {"task_id": "task", "cluster": ref, "image": "alpine:3", "cmds": ["sh", "-c"]}
        operator = quiet(kind(**{**defaults, "arguments": [script], **arguments}))
        ti = FakeTaskInstance("task")
        return Ran(operator.execute(context_of(ti)), ti)

    return run


@pytest.mark.parametrize("step", STEPS)
def test_each_step_by_itself(cluster: EmbeddedCluster, run_as: Run, recorder: Recorder, step: str) -> None:
    kind = recording(KubernetesPodOperator, recorder, step)
    ran = run_as(kind, "echo 5 > /airflow/xcom/return.json", do_xcom_push=True, on_finish_action="keep_pod")
    assert ran.result == 5
    assert recorder.steps == [step]
    (call,) = recorder.calls
    assert call.thread == threading.main_thread().name
    for pod in call.pods:
        assert pod.metadata.name.startswith("task-")
        assert pod.metadata.namespace == "default"
        assert pod.spec.containers[0].name == "base"


def test_all_steps_in_upstream_s_order(cluster: EmbeddedCluster, run_as: Run, recorder: Recorder) -> None:
    run_as(recording(KubernetesPodOperator, recorder, *STEPS), "true", do_xcom_push=True)
    assert recorder.steps == [step for step in STEPS if step != "patch_already_checked"]
    assert {call.thread for call in recorder.calls} == {threading.main_thread().name}
    cluster.wait_until(gone)


def test_the_steps_that_a_pod_of_an_earlier_try_asks_for(
    cluster: EmbeddedCluster, run_as: Run, recorder: Recorder
) -> None:
    class Abandoned(KubernetesPodOperator):
        def await_pod_completion(self, pod: Any) -> None:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_as(
                Abandoned, "sleep 1; echo done", on_kill_action="keep_pod", durable=False, termination_grace_period=0
            )
    kind = recording(KubernetesPodOperator, recorder, "process_duplicate_label_pods", "log_matching_pod")
    run_as(kind, "false")
    assert recorder.steps == ["process_duplicate_label_pods", "log_matching_pod"]
    assert recorder.calls[1].pods[0].metadata.labels["task_id"] == "task"
    cluster.wait_until(gone)


def test_what_an_override_of_build_pod_request_obj_changes_is_created(cluster: EmbeddedCluster, run_as: Run) -> None:
    class Labelled(KubernetesPodOperator):
        def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> Any:
            pod = super().build_pod_request_obj(context, dry_run=dry_run)
            pod.metadata.labels["team"] = "blue"
            return pod

    run_as(Labelled, on_finish_action="keep_pod")
    (pod,) = cluster.pods()
    assert pod["metadata"]["labels"]["team"] == "blue"


def test_what_an_override_of_get_or_create_pod_changes_is_created(cluster: EmbeddedCluster, run_as: Run) -> None:
    class Labelled(KubernetesPodOperator):
        def get_or_create_pod(self, pod_request_obj: Any, context: Any) -> Any:
            pod_request_obj.metadata.labels["team"] = "blue"
            return super().get_or_create_pod(pod_request_obj, context)

    run_as(Labelled, on_finish_action="keep_pod")
    (pod,) = cluster.pods()
    assert pod["metadata"]["labels"]["team"] == "blue"


def test_a_request_that_an_override_of_execute_has_made_is_taken(cluster: EmbeddedCluster, run_as: Run) -> None:
    class Prepared(KubernetesPodOperator):
        def execute(self, context: Any) -> Any:
            self.pod_request_obj = self.build_pod_request_obj(context)
            self.pod_request_obj.metadata.labels["team"] = "blue"
            return super().execute(context)

    run_as(Prepared, on_finish_action="keep_pod")
    (pod,) = cluster.pods()
    assert pod["metadata"]["labels"]["team"] == "blue"


def test_an_operator_that_runs_again_makes_another_request(cluster: EmbeddedCluster, ref: ClusterRef) -> None:
    operator = quiet(KubernetesPodOperator(task_id="task", cluster=ref, image="alpine:3", cmds=["true"]))
    names = set()
    for number in (1, 2):
        ti = FakeTaskInstance("task", try_number=number)
        operator.execute(context_of(ti))
        names.add(ti.pushed["pod_name"])
    assert len(names) == 2


@pytest.mark.parametrize("returned", ["the pod", "the request"])
def test_a_pod_that_an_override_creates_itself(cluster: EmbeddedCluster, run_as: Run, returned: str) -> None:
    class Own(KubernetesPodOperator):
        def get_or_create_pod(self, pod_request_obj: Any, context: Any) -> Any:
            with self.hook.api_client:
                created = self.client.create_namespaced_pod("default", pod_request_obj)
            return created if returned == "the pod" else pod_request_obj

    ran = run_as(Own, "echo 3 > /airflow/xcom/return.json", do_xcom_push=True)
    assert ran.result == 3
    cluster.wait_until(gone)


def test_a_pod_that_an_override_only_says_it_created(cluster: EmbeddedCluster, run_as: Run) -> None:
    class Idle(KubernetesPodOperator):
        def get_or_create_pod(self, pod_request_obj: Any, context: Any) -> Any:
            return pod_request_obj

    with pytest.raises(PodRunError, match=r"Idle\.get_or_create_pod returned pod default/task-.*, which is not there"):
        run_as(Idle)


def test_a_pod_is_gone_when_an_override_fails_after_it_was_created(cluster: EmbeddedCluster, run_as: Run) -> None:
    class Failing(KubernetesPodOperator):
        def get_or_create_pod(self, pod_request_obj: Any, context: Any) -> Any:
            super().get_or_create_pod(pod_request_obj, context)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_as(Failing, "sleep 60", termination_grace_period=0)
    cluster.wait_until(gone)


def test_an_override_of_find_pod_says_which_pod_to_go_on_with(
    cluster: EmbeddedCluster, ref: ClusterRef, run_as: Run
) -> None:
    class Finding(KubernetesPodOperator):
        def find_pod(self, namespace: str, context: Any, *, exclude_checked: bool = True) -> Any:
            with self.hook.api_client:
                (pod,) = self.client.list_namespaced_pod(namespace).items
            return pod

    container = {"name": "base", "image": "alpine:3", "command": ["sh", "-c", "sleep 0.5; exit 7"]}
    body: Any = {"metadata": {"name": "other"}, "spec": {"containers": [container], "restartPolicy": "Never"}}
    hook = KubernetesHook(cluster=ref)
    with hook.api_client:
        hook.core_v1_client.create_namespaced_pod("default", body)
    with pytest.raises(PodFailedError) as raised:
        run_as(Finding)
    assert raised.value.exit_code == 7


def test_overrides_that_wait_for_nothing(cluster: EmbeddedCluster, run_as: Run) -> None:
    class Impatient(KubernetesPodOperator):
        def await_pod_start(self, pod: Any) -> None: ...

        def await_pod_completion(self, pod: Any) -> None: ...

    ran = run_as(Impatient, "sleep 0.3; echo 6 > /airflow/xcom/return.json", do_xcom_push=True)
    assert ran.result == 6


def test_an_override_catches_what_upstream_raises(cluster: EmbeddedCluster, run_as: Run) -> None:
    caught: list[Exception] = []

    class Lenient(KubernetesPodOperator):
        def await_pod_start(self, pod: Any) -> None:
            try:
                super().await_pod_start(pod)
            except PodLaunchTimeoutException as error:
                caught.append(error)
                raise

        def extract_xcom(self, pod: Any, *, ignore_kill_failure: bool = True) -> Any:
            try:
                return super().extract_xcom(pod, ignore_kill_failure=ignore_kill_failure)
            except XComRetrievalError:
                return "a substitute"

    assert run_as(Lenient, "echo '{' > /airflow/xcom/return.json", do_xcom_push=True).result == "a substitute"
    with pytest.raises(PodStartTimeoutError) as raised:
        run_as(Lenient, node_selector={"gpu": "yes"}, schedule_timeout_seconds=0.2)
    assert caught == [raised.value]


def test_an_override_of_cleanup_may_let_a_failure_pass(cluster: EmbeddedCluster, run_as: Run) -> None:
    class Tolerant(KubernetesPodOperator):
        def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Any = None) -> None:
            try:
                super().cleanup(pod, remote_pod, xcom_result, context)
            except AirflowException:
                self.log.info("never mind")

    assert run_as(Tolerant, "exit 3").result is None
    cluster.wait_until(gone)


# -- hook and client -------------------------------------------------------------------------------------------------


def test_an_override_of_hook_says_where_the_pod_goes(cluster: EmbeddedCluster, ref: ClusterRef, run_as: Run) -> None:
    class Elsewhere(KubernetesPodOperator):
        @property
        def hook(self) -> Any:
            return KubernetesHook(cluster=ref)

    run_as(Elsewhere, cluster=None, config_file="/not/there", on_finish_action="keep_pod")
    assert len(cluster.pods()) == 1


def test_a_hook_of_upstream_s_shape_is_understood(cluster: EmbeddedCluster, config: Any, run_as: Run) -> None:
    class Elsewhere(KubernetesPodOperator):
        @property
        def hook(self) -> Any:
            return SimpleNamespace(
                conn_id=None,
                cluster_context=None,
                config_file=str(config),
                config_dict=None,
                in_cluster=None,
                disable_verify_ssl=None,
            )

    run_as(Elsewhere, cluster=None, on_finish_action="keep_pod")
    assert len(cluster.pods()) == 1


def test_another_hook_is_refused_by_name(run_as: Run) -> None:
    class Elsewhere(KubernetesPodOperator):
        @property
        def hook(self) -> Any:
            return object()

    with pytest.raises(ConfigurationError, match=r"hook of Elsewhere returned a builtins\.object") as raised:
        run_as(Elsewhere)
    assert isinstance(raised.value, AirflowException)


def test_client_is_made_once_and_told_of_once(cluster: EmbeddedCluster, ref: ClusterRef) -> None:
    told: list[Any] = []

    class Told:
        @staticmethod
        def on_sync_client_creation(*, client: Any, operator: Any, **kwargs: Any) -> None:
            told.append((client, operator))

        @staticmethod
        def on_pod_creation(*, client: Any, **kwargs: Any) -> None:
            told.append(client)

    operator = quiet(
        KubernetesPodOperator(task_id="task", cluster=ref, image="alpine:3", cmds=["true"], callbacks=[Told, Told])
    )
    client = operator.client
    with operator.hook.api_client:
        assert client.list_namespace().items
        operator.execute(context_of(FakeTaskInstance("task")))
    assert told == [(client, operator)] * 2 + [client] * 2
    operator._refresh_cached_properties()
    with operator.hook.api_client as another:
        assert another is not client.api_client


def test_an_operator_can_be_copied_after_its_run(cluster: EmbeddedCluster, ref: ClusterRef) -> None:
    operator = quiet(KubernetesPodOperator(task_id="task", cluster=ref, image="alpine:3", cmds=["true"]))
    with operator.hook.api_client:
        operator.client  # noqa: B018 - made, and so to be copied
        operator.execute(context_of(FakeTaskInstance("task")))
        assert copy.deepcopy(operator).image == "alpine:3"


# -- methods that a run does not call --------------------------------------------------------------------------------


def test_istio(cluster: EmbeddedCluster, run_as: Run) -> None:
    answers: list[Any] = []

    class Asking(KubernetesPodOperator):
        def await_pod_completion(self, pod: Any) -> None:
            answers.append(self.is_istio_enabled(pod))
            answers.append(self.is_istio_enabled(None))
            answers.append(self.is_istio_enabled({"metadata": {"namespace": "default", "name": "not-there"}}))
            try:
                self.kill_istio_sidecar(pod)
            except AirflowException as error:
                answers.append(str(error))
            super().await_pod_completion(pod)

    side = {"name": "istio-proxy", "image": "alpine:3", "command": ["sleep", "1"]}
    run_as(Asking, full_pod_spec={"spec": {"containers": [{"name": "base"}, side]}})
    assert answers[:3] == [True, False, False]
    assert "did not take the request to end" in answers[3]


def test_a_pod_given_as_model_or_object_is_the_same(cluster: EmbeddedCluster, run_as: Run) -> None:
    run_as(KubernetesPodOperator, on_finish_action="keep_pod")
    (pod,) = cluster.pods()
    known = as_pod(pod)
    assert as_pod(known) is known
    assert known.status.phase == pod["status"]["phase"]


def test_convert_config_file_to_dict(config: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = KubernetesPodOperator(task_id="task", config_file=str(config))

    def converted() -> Any:
        operator.convert_config_file_to_dict()
        return operator._config_dict

    assert converted()["kind"] == "Config"
    operator.config_file = None
    assert converted() is None
    monkeypatch.setenv("KUBECONFIG", str(config))
    assert converted()["kind"] == "Config"
    broken = tmp_path / "broken"
    broken.write_text("token: {hunter2")
    operator.config_file = str(broken)
    with pytest.raises(ConfigurationError, match="cannot be read: ParserError") as raised:
        operator.convert_config_file_to_dict()
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("ask", "instead"),
    [
        (lambda operator: operator.pod_manager, "await_pod_completion"),
    ],
)
def test_what_is_refused_names_what_to_use(ask: Callable[[Any], object], instead: str) -> None:
    with pytest.raises(ConfigurationError, match=instead) as raised:
        ask(KubernetesPodOperator(task_id="task"))
    assert isinstance(raised.value, AirflowException)


def test_steps_outside_a_run_say_so() -> None:
    with pytest.raises(PodRunError, match=r"during execute\(\) only"):
        KubernetesPodOperator(task_id="task").await_pod_start({})
    with pytest.raises(PodRunError, match=r"during execute_async\(\) only"):
        KubernetesPodOperator(task_id="task").invoke_defer_method()
