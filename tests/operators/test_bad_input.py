"""What is refused when a DAG is parsed, each by its parameter's name; and what has to be let pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_multicluster.cluster import ClusterRef, kubeconfig, token
from kpo_multicluster.errors import ConfigurationError, UnknownClusterKindError
from kpo_multicluster.operators.enums import OnFinishAction, OnKillAction
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.secret import Secret
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .conftest import FakeTaskInstance, Ran

Arguments = dict[str, Any]


def operator(**arguments: Any) -> KubernetesPodOperator:
    return KubernetesPodOperator(task_id="task", **arguments)


def of_each(names: str, *values: Any) -> list[Arguments]:
    return [{name: value} for name in names.split() for value in values]


NO_TRUTH_VALUE = of_each(
    "random_name_suffix get_logs hostnetwork log_events_on_failure log_events_on_startup log_pod_spec_on_failure "
    "do_xcom_push container_name_log_prefix_enabled server_side_deadline deferrable",
    "False",
    0,
    None,
)
NO_OPTIONAL_TRUTH_VALUE = of_each(
    "in_cluster automount_service_account_token durable reattach_on_restart is_delete_operator_pod", "False", 0, []
)
NO_SECONDS = of_each(
    "startup_timeout_seconds schedule_timeout_seconds startup_check_interval_seconds poll_interval logging_interval "
    "base_container_status_polling_interval sidecar_drain_seconds termination_grace_period active_deadline_seconds",
    "10",
    -1,
    True,
    timedelta(seconds=1),
    float("nan"),
    float("inf"),
    "{{ 10 }}",
)
NO_TEXT = of_each("kubernetes_conn_id cluster_context config_file image name namespace hostname", 5j, ["a"], {"a": 1})
NO_TEXT_WITHOUT_TEMPLATES = of_each(
    "image_pull_policy service_account_name subdomain dnspolicy schedulername priority_class_name "
    "runtime_class_name termination_message_policy",
    ["a"],
    {"a": 1},
)
NO_CHOICE = of_each("image_pull_policy dnspolicy termination_message_policy", "always", "None ") + of_each(
    "on_finish_action on_kill_action xcom_transport", "delete", None, 1
)
NO_LIST = of_each(
    "cmds arguments volumes volume_mounts ports env_from secrets init_containers tolerations host_aliases "
    "configmaps pod_runtime_info_envs",
    "echo hi",
    {"a": "b"},
    5,
    0,
    False,
)
NO_DICTIONARY = of_each("labels annotations node_selector", "a=b", ["a"], 5, 0)
NO_STRUCTURE = of_each(
    "container_resources affinity security_context container_security_context dns_config full_pod_spec "
    "pod_template_dict xcom_sidecar_container_security_context",
    "text",
    ["a"],
    5,
)
NO_ITEM = [
    {"cmds": [{"a": 1}]},
    {"volumes": ["data"]},
    {"volume_mounts": [5]},
    {"env_vars": "A=1"},
    {"env_vars": ["A=1"]},
    {"env_vars": {"A": {"b": 1}}},
    {"env_from": ["config"]},
    {"ports": [8080]},
    {"secrets": ["vault"]},
    {"secrets": [SimpleNamespace(deploy_type="file", deploy_target="/x", secret="s")]},
    {"image_pull_secrets": 5},
    {"image_pull_secrets": [5]},
    {"configmaps": [{"name": "c"}]},
    {"tolerations": [{"tolerationSeconds": "soon"}]},
    {"container_resources": {"limits": ["cpu"]}},
    {"full_pod_spec": {"kind": "Deployment"}},
    {"name": "no spaces"},
]
NO_NAMES_OF_CONTAINERS = of_each("container_logs init_container_logs", False, 5, {"base": 1}, b"base", ["base", 5])
NO_EXIT_CODES = of_each("skip_on_exit_code", "99", True, [99, "a"], [True], {"99": 1}, 1.5, object())
NO_FUNCTION = of_each("log_formatter progress_callback", "print", 5)
NO_CALLBACKS = of_each("callbacks", "Callback", 5, object, [object], {}, [None], print)
NO_CLUSTER = of_each("cluster", "alpha", {"kind": "kubeconfig"}, 5)
NO_CAUSE = of_each("relaunch_on", "oom", ["evicted", "oom"], 5, [5])

TABLE = [
    *NO_TRUTH_VALUE,
    *NO_OPTIONAL_TRUTH_VALUE,
    *NO_SECONDS,
    *NO_TEXT,
    *NO_TEXT_WITHOUT_TEMPLATES,
    *NO_CHOICE,
    *NO_LIST,
    *NO_DICTIONARY,
    *NO_STRUCTURE,
    *NO_ITEM,
    *NO_NAMES_OF_CONTAINERS,
    *NO_EXIT_CODES,
    *NO_FUNCTION,
    *NO_CALLBACKS,
    *NO_CLUSTER,
    *NO_CAUSE,
]


def name_of_case(arguments: Arguments) -> str:
    # Without addresses: a test is called the same in each process.
    shown = {name: re.sub(" at 0x[0-9a-f]+", "", repr(value)) for name, value in arguments.items()}
    return ", ".join(f"{name}={value:.30}" for name, value in shown.items())


@pytest.mark.parametrize("arguments", TABLE, ids=name_of_case)
@pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")
def test_a_wrong_type_is_refused_by_name(arguments: Arguments) -> None:
    (name,) = arguments
    with pytest.raises(ConfigurationError, match=rf"\b{name}\b"):
        operator(**arguments)


CONTRADICTIONS: list[tuple[Arguments, str]] = [
    ({"is_delete_operator_pod": True, "on_finish_action": "keep_pod"}, "is_delete_operator_pod=True contradicts on_fi"),
    ({"is_delete_operator_pod": False, "on_finish_action": "delete_active_pod"}, "contradicts on_finish_action"),
    ({"resources": {"limit_cpu": 1}, "container_resources": {"limits": {"cpu": 1}}}, "resources is the older name"),
    ({"relaunch_on": ["evicted"], "random_name_suffix": False}, "relaunch_on needs random_name_suffix"),
    ({"server_side_deadline": True}, "server_side_deadline=True .* execution_timeout"),
    ({"deferrable": True, "cluster": kubeconfig(document={})}, "deferrable=True .* cluster= holds document inline"),
    ({"deferrable": True, "cluster": token("https://x", token="t")}, "deferrable=True .* holds token inline"),
    ({"trigger_kwargs": ["a"]}, "trigger_kwargs must be a dictionary"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), CONTRADICTIONS, ids=lambda value: name_of_case(value) if isinstance(value, dict) else ""
)
@pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")
def test_what_contradicts_itself_is_refused(arguments: Arguments, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        operator(**arguments)


def test_an_unknown_kind_of_cluster_is_refused() -> None:
    with pytest.raises(UnknownClusterKindError, match="'nonsense'"):
        operator(cluster=ClusterRef("nonsense"))


def test_an_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="startup_timeout"):
        operator(startup_timeout=5)


class Colour(str, Enum):
    DELETE = "delete_pod"


class Later:
    """Stands for another task's result."""

    def resolve(self, context: Any) -> Any:
        return context["value"]


ALLOWED: list[Arguments] = [
    {"on_finish_action": OnFinishAction.DELETE_SUCCEEDED_POD, "on_kill_action": OnKillAction.KEEP_POD},
    {"on_finish_action": Colour.DELETE},
    {"skip_on_exit_code": 0},
    {"skip_on_exit_code": range(5, 9)},
    {"skip_on_exit_code": {1, 2}},
    {"container_logs": True, "init_container_logs": ["a", "b"]},
    {"container_logs": {"a": 1}.keys()},
    {"schedule_timeout_seconds": 0},
    {"startup_timeout_seconds": 0.5, "poll_interval": 1, "logging_interval": 3, "sidecar_drain_seconds": None},
    {"secrets": [Secret("env", "A", "s", "k")]},
    {"image_pull_secrets": "a, b"},
    {"labels": {"n": 1, "none": None}, "annotations": {"b": True}},
    {"config_file": Path("/etc/kubeconfig"), "pod_template_file": Path("/pod.yaml")},
    {"kubernetes_conn_id": None, "cluster_context": None},
    {"callbacks": []},
    {"log_formatter": lambda container, line: line},
    {"image_pull_policy": "", "dnspolicy": ""},
    {"resources": {"cpus": 1}},
    # Yet to be rendered.
    {"cmds": "{{ params.cmds }}", "env_vars": "{{ params.env }}", "labels": "{{ params.labels }}"},
    {"arguments": "['a', 'b']", "volumes": "[]", "pod_template_dict": "{{ params.pod }}"},
    {"image": "{{ params.image }}", "name": "{{ params.name }}", "namespace": "{{ params.namespace }}"},
    {"arguments": ["{{ ds }}", Later()], "env_vars": {"A": Later(), "{{ params.name }}": "1"}},
    {"cmds": Later(), "volumes": [Later()], "node_selector": {"zone": Later()}},
    {"container_resources": {"limits": {"memory": "{{ params.memory }}"}}},
    {"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": "{{ params.mode }}"}}]},
    {"arguments": lambda context, jinja_env: ["a"], "image": lambda context, jinja_env: "a"},
    {"kubernetes_conn_id": "{{ params.conn }}", "cluster_context": Later(), "config_file": "{{ params.file }}"},
]


@pytest.mark.parametrize("arguments", ALLOWED, ids=name_of_case)
def test_what_can_work_is_let_pass(arguments: Arguments) -> None:
    operator(**arguments)


def test_a_subclass_may_have_further_templates() -> None:
    class Templated(KubernetesPodOperator):
        template_fields = (*KubernetesPodOperator.template_fields, "service_account_name", "active_deadline_seconds")

    made = Templated(task_id="task", service_account_name="{{ params.who }}", active_deadline_seconds="{{ 5 }}")  # type: ignore[arg-type]
    assert made.template_fields[-1] == "active_deadline_seconds"
    with pytest.raises(ConfigurationError, match="active_deadline_seconds"):
        Templated(task_id="task", active_deadline_seconds="soon")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cmds": "{{ 'echo hi' }}"}, "cmds must be a list, each item a text, got str"),
        ({"env_vars": "{{ 'A=1' }}"}, "env_vars must be a list"),
        ({"name": "{{ 'no spaces' }}"}, "name 'no spaces'"),
        ({"pod_template_file": "/no/such.yaml"}, "pod_template_file"),
        ({"cluster_context": lambda context, jinja_env: 5}, "cluster_context must be a text"),
    ],
)
def test_what_a_template_turned_out_to_be_is_refused_when_the_task_runs(
    cluster: EmbeddedCluster, run: Callable[..., Ran], make: Callable[..., Any], arguments: Arguments, message: str
) -> None:
    with DAG("dag", schedule=None):
        task = make(**arguments)
    context: Any = {"ti": FakeTaskInstance("task")}
    task.render_template_fields(context)
    with pytest.raises(ConfigurationError, match=message):
        task.execute(context)
    assert not cluster.pods()


def rendered(made: KubernetesPodOperator, **context: Any) -> KubernetesPodOperator:
    with DAG("dag", schedule=None) as dag:
        dag.add_task(made)
    values: Any = context
    made.render_template_fields(values)
    return made


def test_names_of_environment_variables_are_templates_too() -> None:
    made = rendered(operator(env_vars={"A_{{ name }}": "{{ value }}", "B": "b"}), name="X", value="x")
    assert made.env_vars == [{"name": "A_X", "value": "x"}, {"name": "B", "value": "b"}]
    plain = rendered(operator(env_vars={"A": "{{ value }}"}), value="x")
    assert plain.env_vars == {"A": "x"}


def test_fields_of_model_objects_are_templates_too() -> None:
    from kubernetes.client import models

    claim = models.V1PersistentVolumeClaimVolumeSource(claim_name="{{ value }}-claim")
    made = rendered(
        operator(
            env_vars=[models.V1EnvVar(name="{{ value }}", value="{{ value }}")],
            volumes=[models.V1Volume(name="{{ value }}", persistent_volume_claim=claim)],
            volume_mounts=[models.V1VolumeMount(name="{{ value }}", sub_path="{{ value }}", mount_path="{{ value }}")],
            env_from=[models.V1EnvFromSource(config_map_ref=models.V1ConfigMapEnvSource(name="{{ value }}"))],
            container_resources=models.V1ResourceRequirements(limits={"cpu": "{{ value }}"}),
        ),
        value="x",
    )
    pod = made.build_pod_request_obj(dry_run=True)
    container = pod.spec.containers[0]
    assert (container.env[0].name, container.env[0].value) == ("x", "x")
    assert (pod.spec.volumes[0].name, pod.spec.volumes[0].persistent_volume_claim.claim_name) == ("x", "x-claim")
    mount = container.volume_mounts[0]
    assert (mount.name, mount.sub_path, mount.mount_path) == ("x", "x", "{{ value }}")
    assert container.env_from[0].config_map_ref.name == "x"
    assert container.resources.limits == {"cpu": "x"}


# -- arguments by older names ----------------------------------------------------------------------------------------


def test_the_guide_s_resources_become_the_container_s() -> None:
    with pytest.warns(DeprecationWarning, match="use container_resources") as warned:
        made = operator(resources={"request_memory": "64Mi", "limit_gpu": 1})
    assert warned[0].filename == __file__
    pod = made.build_pod_request_obj(dry_run=True)
    resources = pod.spec.containers[0].resources
    assert (resources.requests, resources.limits) == ({"memory": "64Mi"}, {"nvidia.com/gpu": "1"})


def test_airflow_s_own_resources_stay_airflow_s() -> None:
    made = operator(resources={"cpus": 2})
    assert made.resources is not None
    assert made.container_resources is None


def test_older_ways_to_keep_and_to_reattach() -> None:
    assert operator().durable is True
    assert operator(reattach_on_restart=False).durable is False
    assert operator(reattach_on_restart=False, durable=True).reattach_on_restart is True


def test_default_args_are_checked_as_arguments_are() -> None:
    soon = DAG("soon", schedule=None, default_args={"startup_timeout_seconds": "soon"})
    with soon, pytest.raises(ConfigurationError, match="startup_timeout_seconds"):
        operator()
    with DAG("dag", schedule=None, default_args={"get_logs": False}):
        assert operator().get_logs is False


def test_a_mapped_task_is_checked_when_it_is_made_of_its_values() -> None:
    with DAG("dag", schedule=None):
        mapped = KubernetesPodOperator.partial(task_id="mapped", image="alpine:3").expand(cmds=[["true"], "false"])
    unmapped: Callable[[Mapping[str, Any]], Any] = mapped.unmap
    assert unmapped({"cmds": ["true"]}).cmds == ["true"]
    with pytest.raises(ConfigurationError, match="cmds must be a list"):
        unmapped({"cmds": "false"})
