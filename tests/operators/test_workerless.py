"""Workerless tasks when a DAG is parsed: what is stored of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, task, task_group

from kpo_multicluster import clouds
from kpo_multicluster.airflow_names import STARTS_IN_TRIGGERER
from kpo_multicluster.callbacks import KubernetesPodOperatorCallback
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.node_groups.spec import GkeNodes, Gpu, NodeGroupSpec
from kpo_multicluster.operators.eks import EksPodOperator
from kpo_multicluster.operators.gpu_nodes import gpu_nodes
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.operators.workerless.arguments import Result
from kpo_multicluster.operators.workerless.steps import task_of
from kpo_multicluster.secret import Secret

from .triggering import row_of, stored_dag

pytestmark = pytest.mark.skipif(not STARTS_IN_TRIGGERER, reason="needs Airflow 3.3")


class V1EnvVar:
    """By its shape, the model of a Kubernetes client."""

    openapi_types = {"name": "str", "value": "str"}
    attribute_map = {"name": "name", "value": "value"}

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value


class Counting(KubernetesPodOperatorCallback):
    """As a module that is installed would have it."""


class OfATeam(KubernetesPodOperator):
    """As a module that is installed would have it: with arguments that it passes on, changed or made by itself."""

    def __init__(self, *, team: str, name: str, **kwargs: Any) -> None:
        super().__init__(name=f"{team}-{name}", image=f"{team}:1", labels={"team": team}, **kwargs)
        self.team = team


def shouted(text: str, _container: str) -> str:
    return text.upper()


def make(kind: Any = KubernetesPodOperator, **arguments: Any) -> Any:
    given = {"task_id": "task", "image": "alpine:3", "cluster": kubeconfig("/config"), "workerless": True, **arguments}
    return kind(**{name: given[name] for name in given if not (kind is OfATeam and name == "image")})


def anew(operator: Any) -> Any:
    """The task as a triggerer makes it, of what the DAG has stored."""
    args = stored_dag(operator.dag).get_task(operator.task_id).start_trigger_args
    return task_of(args.trigger_kwargs["__var"]["given"], "dag", operator.task_id)


def test_the_task_is_made_anew_of_what_is_stored() -> None:
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        operator = make(
            name="{{ ds }}",
            env_vars=[V1EnvVar("A", "{{ params.a }}")],
            volumes=[{"name": "v", "emptyDir": {}}],
            secrets=[Secret("env", "TOKEN", "tokens", "token")],
            callbacks=Counting,
            log_formatter=shouted,
            skip_on_exit_code=range(3),
            relaunch_on={"evicted", "preempted"},
            pod_template_file=Path("/template.yaml"),
            execution_timeout=timedelta(minutes=1),
            retries=2,
            on_finish_action="keep_pod",
            do_xcom_push=True,
        )
    operator.labels = {"policy": "set"}
    found = anew(operator)
    assert (found.task_id, found.name, found.image) == ("task", "{{ ds }}", "alpine:3")
    assert found.env_vars == [{"name": "A", "value": "{{ params.a }}"}]
    assert found.volumes == [{"name": "v", "emptyDir": {}}]
    assert found.secrets == operator.secrets
    assert (found.callbacks, found.log_formatter) == ([Counting], shouted)
    assert (list(found.skip_on_exit_code), found.relaunch_on) == ([0, 1, 2], operator.relaunch_on)
    assert found.pod_template_file == "/template.yaml"
    assert (found.execution_timeout, found.retries) == (timedelta(minutes=1), 2)
    assert (found.on_finish_action, found.do_xcom_push) == (operator.on_finish_action, True)
    assert found.labels == {"policy": "set"}
    assert found.cluster == operator.cluster
    assert found.dag.render_template_as_native_obj
    assert (found.deferrable, found.workerless) == (True, False)


def test_the_operators_of_clouds() -> None:
    with DAG("dag", schedule=None):
        operator = make(EksPodOperator, cluster_name="gpu", region="eu-west-1", pod_name="p", cluster=None)
    found = anew(operator)
    assert type(found) is EksPodOperator
    assert (found.cluster_name, found.region, found.name) == ("gpu", "eu-west-1", "p")


def test_an_argument_that_is_none_on_purpose() -> None:
    with DAG("dag", schedule=None, default_args={"sidecar_drain_seconds": None}):
        plain = make(kubernetes_conn_id=None, cluster=None)
        cloud = make(EksPodOperator, task_id="eks", cluster_name="gpu", region="r", cluster=None, aws_conn_id=None)
    # Else a connection would be looked up that the DAG does not want.
    assert (anew(plain).kubernetes_conn_id, anew(plain).sidecar_drain_seconds) == (None, None)
    assert anew(cloud).aws_conn_id is None


def test_a_class_that_passes_on_arguments_of_its_own() -> None:
    with DAG("dag", schedule=None, default_args={"namespace": "ml", "image": "other:1"}):
        operator = make(OfATeam, team="a", name="{{ ds }}", get_logs=False)
    found = anew(operator)
    assert (type(found), found.team, found.image, found.labels) == (OfATeam, "a", "a:1", {"team": "a"})
    assert (found.name, found.namespace, found.get_logs) == ("a-{{ ds }}", "ml", False)


def test_what_was_set_on_the_task_since() -> None:
    spec = NodeGroupSpec(
        name="train", machine_types=("n1",), gpu=Gpu(type="nvidia-l4"), options=GkeNodes(zones=("europe-west1-b",))
    )
    gpu = clouds.gke("gpu", project="p", location="europe-west1")
    with DAG("dag", schedule=None), gpu_nodes(cluster=gpu, spec=spec) as nodes:
        operator = make(cluster=gpu)
        other = KubernetesPodOperator(task_id="other", image="alpine:3", workerless=True)
    other.cluster = gpu
    assert anew(other).cluster == gpu
    operator.startup_timeout_seconds, operator.service_account_name = 7, "set-by-a-policy"
    found = anew(operator)
    # Without its tolerations, no node would take it.
    assert (nodes.pod_arguments()["tolerations"], found.tolerations) == (operator.tolerations, operator.tolerations)
    assert found.node_selector == operator.node_selector == {"cloud.google.com/gke-nodepool": "train"}
    assert found.container_resources == operator.container_resources
    assert (found.startup_timeout_seconds, found.service_account_name) == (7, "set-by-a-policy")


def test_results_of_other_tasks() -> None:
    with DAG("dag", schedule=None) as dag:
        before: Any = KubernetesPodOperator(task_id="before", image="alpine:3")
        operator = make(arguments=[before.output], env_vars={"A": before.output["key"]})
    (first,), second = anew(operator).arguments, anew(operator).env_vars["A"]
    assert isinstance(first, Result)
    assert (first.task_id, first.key) == ("before", "return_value")
    assert (second.task_id, second.key) == ("before", "key")
    # The task still waits for the other.
    assert stored_dag(dag).get_task("task").upstream_task_ids == {"before"}


def test_arguments_by_their_place_are_refused_as_by_airflow() -> None:
    with pytest.raises(TypeError, match="Use keyword arguments"):
        KubernetesPodOperator("task")  # type: ignore[call-arg]


def test_by_the_name_of_other_providers() -> None:
    with DAG("dag", schedule=None) as dag:
        make(workerless=False, start_from_trigger=True)
        make(task_id="other", workerless=False)
    assert stored_dag(dag).get_task("task").start_from_trigger
    assert not stored_dag(dag).get_task("other").start_from_trigger


def test_a_subclass_may_start_from_a_trigger_of_its_own() -> None:
    from airflow.triggers.base import StartTriggerArgs

    class Own(KubernetesPodOperator):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.start_trigger_args = StartTriggerArgs("a.Trigger", "execute_complete", {"a": 1})
            self.start_from_trigger = True

    with DAG("dag", schedule=None) as dag:
        make(Own, workerless=False)
    stored = stored_dag(dag).get_task("task")
    assert (stored.start_from_trigger, stored.start_trigger_args.trigger_cls) == (True, "a.Trigger")


def test_what_is_stored_does_not_change_from_parse_to_parse() -> None:
    def row() -> str:
        with DAG("dag", schedule=None) as dag:
            make(relaunch_on={"evicted", "preempted", "node_lost"}, skip_on_exit_code={9, 8, 7})
        return row_of(stored_dag(dag).get_task("task"))

    assert row() == row()


def test_the_row_holds_nothing_rendered() -> None:
    with DAG("dag", schedule=None) as dag:
        make(env_vars={"PASSWORD": "{{ conn.warehouse.password }}"}, kubernetes_conn_id="gpu", cluster=None)
    row = json.loads(row_of(stored_dag(dag).get_task("task")))
    given = json.loads(row["__var"]["given"])["arguments"]
    assert given["env_vars"] == {"PASSWORD": "{{ conn.warehouse.password }}"}
    assert given["kubernetes_conn_id"] == "gpu"


def refusal(arguments: dict[str, Any], **of_dag: Any) -> str:
    with pytest.raises(Exception) as raised, DAG("dag", schedule=None, **of_dag) as dag:  # noqa: PT012
        make(**arguments)
        stored_dag(dag)
    return str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"pool": "gpus"}, "pool (Airflow counts only what workers run)"),
        ({"pool_slots": 2}, "pool_slots"),
        ({"max_active_tis_per_dag": 2}, "max_active_tis_per_dag"),
        ({"pre_execute": print}, "pre_execute"),
        ({"on_execute_callback": print}, "on_execute_callback"),
        ({"on_success_callback": print}, "use a task that follows"),
        ({"on_skipped_callback": print}, "on_skipped_callback"),
        ({"outlets": [Asset("s3://a")]}, "outlets (Airflow tells of assets only what workers did)"),
        ({"run_as_user": "someone"}, "run_as_user"),
        ({"env_vars": {"PASSWORD": "hunter2"}}, "env_vars PASSWORD would be stored"),
        ({"env_vars": {"KEYFILE_DICT": '{"private_key": "x"}'}}, "env_vars KEYFILE_DICT would be stored"),
        ({"env_vars": [V1EnvVar("API_TOKEN", "x")]}, "env_vars API_TOKEN"),
        ({"cluster": clouds.eks("gpu", region="r"), "workerless": "yes"}, "workerless must be True or False"),
        ({"cluster": kubeconfig(document={"clusters": []})}, "holds document inline"),
        ({"arguments": [lambda context, jinja_env: "a"]}, "arguments[0] holds"),
        ({"trigger_kwargs": {"a": object()}}, "trigger_kwargs['a'] holds a object"),
    ],
)
def test_what_needs_a_worker_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], named: str) -> None:
    assert named in refusal(arguments)


def test_a_class_and_a_callback_of_the_dag_file() -> None:
    class Here(KubernetesPodOperator):
        pass

    class Told(KubernetesPodOperatorCallback):
        pass

    class Executing(Counting):
        pass

    assert "its class Here is defined in the DAG file" in refusal({"kind": Here})
    assert "callbacks" in refusal({"callbacks": Told})


class Executing(KubernetesPodOperator):
    """With an `execute` of its own."""

    def execute(self, context: Any) -> Any:
        return super().execute(context)


def test_an_execute_of_one_s_own() -> None:
    assert "has an execute() of its own, which only workers call" in refusal({"kind": Executing})


def test_macros_of_the_dag_file() -> None:
    macros: dict[str, Any] = {"user_defined_macros": {"double": lambda number: 2 * number}}
    assert "its templates use double" in refusal({"arguments": ["{{ double(2) }}"]}, **macros)
    with DAG("dag", schedule=None, **macros) as dag:
        make(arguments=["double", "{{ ds }}"])
    assert stored_dag(dag).get_task("task").start_from_trigger


def test_mapped_tasks_and_mapped_results() -> None:
    with pytest.raises(ConfigurationError, match="Airflow starts no mapped task in the triggerer"):
        KubernetesPodOperator.partial(task_id="task", workerless=True)
    with pytest.raises(ConfigurationError, match="Airflow starts no mapped task in the triggerer"):
        KubernetesPodOperator.partial(task_id="task", start_from_trigger=True)
    with DAG("dag", schedule=None) as dag:

        @task
        def many(number: int) -> int:
            return number

        numbers: Any = many.expand(number=[1, 2])
        make(arguments=[numbers])
    with pytest.raises(Exception, match="results of the mapped task 'many'"):
        stored_dag(dag)
    with DAG("dag", schedule=None) as dag:

        @task_group
        def group(name: str) -> None:
            make(arguments=[name])

        group.expand(name=["a", "b"])
    with pytest.raises(Exception, match="only the result of a task"):
        stored_dag(dag)


def test_what_airflow_was_told_is_secret(masked: Callable[[str], None]) -> None:
    masked("correct-horse-battery")
    assert "holds what Airflow has been told is secret" in refusal({"arguments": ["--key=correct-horse-battery"]})


@pytest.fixture
def masked() -> Any:
    """Tells Airflow's masker something, and takes it back."""
    from airflow.sdk._shared.secrets_masker import _secrets_masker

    masker = _secrets_masker()
    before = set(masker.patterns), masker.replacer

    def tell(secret: str) -> None:
        masker.add_mask(secret)

    yield tell
    masker.patterns, masker.replacer = before
