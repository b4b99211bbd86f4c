"""`EksPodOperator`: its arguments, and a pod on a cluster that tells EKS tokens as EKS does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.operators.eks import EksPodOperator
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.testing import EmbeddedCluster, User
from kpo_multicluster.testing.clouds.verify_eks import AccessKey, EksTokenVerifier

from .cloud_signatures import check_signature, installed
from .conftest import FakeTaskInstance, context_of
from .deferring import Execute, quiet

ARN = "arn:aws:iam::111111111111:user/airflow"
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY"


def make(**arguments: Any) -> Any:
    return EksPodOperator(**{"task_id": "task", "cluster_name": "gpu", "region": "us-east-2", **arguments})


@pytest.fixture
def aws_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedCluster]:
    """A cluster `gpu` that knows the user of the connection `aws_remote`."""
    keys = {KEY: AccessKey(ARN, SECRET)}
    connection = {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": {"region_name": "us-east-2"}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_REMOTE", json.dumps(connection))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with EmbeddedCluster("gpu") as cluster:
        cluster.accept_tokens_of(EksTokenVerifier(keys.get, "gpu"))
        cluster.add_user(User(ARN))
        yield cluster


def test_it_takes_what_the_amazon_provider_s_takes() -> None:
    theirs = installed("amazon", "airflow.providers.amazon.aws.operators.eks", "EksPodOperator")
    check_signature(theirs, EksPodOperator, further={"cluster_options"})


def test_a_pod_runs_where_the_rendered_arguments_say(
    aws_cluster: EmbeddedCluster, execute: Execute, lines: Callable[[], list[str]]
) -> None:
    with DAG("dag", schedule=None):
        operator = make(
            cluster_name="{{ where }}",
            region="{{ 'us-east-2' }}",
            aws_conn_id="{{ who }}",
            pod_name="says-{{ where }}",
            in_cluster="{{ False }}",
            image="alpine:3",
            cmds=["sh", "-c", "echo I am on EKS"],
            cluster_options={"endpoint": aws_cluster.server, "ca_data": "{{ ca }}"},
        )
    context = context_of(FakeTaskInstance("task"), where="gpu", who="aws_remote", ca=aws_cluster.ca_pem)
    quiet(operator).render_template_fields(context)
    assert (operator.name, operator.pod_name, operator.in_cluster) == ("says-gpu", "says-gpu", False)
    execute(operator, context)
    assert any(line.endswith("I am on EKS") for line in lines())
    assert context["ti"].pushed["pod_name"].startswith("says-gpu-")
    assert {request.user for request in aws_cluster.requests.records()} == {ARN}


def test_the_cluster_and_where_each_of_its_values_comes_from(aws_cluster: EmbeddedCluster) -> None:
    explained = make(aws_conn_id="aws_remote", cluster_options={"external_id": "x", "role_arn": ROLE}).explain_cluster()
    for part in ("eks", '"gpu"', '"us-east-2"', '"aws_remote"', f'"{ROLE}"', "the arguments of EksPodOperator 'task'"):
        assert part in explained


ROLE = "arn:aws:iam::222222222222:role/airflow-pods"


@pytest.mark.parametrize("given", [None, ""])
def test_without_a_connection_it_is_boto3_s_own_chain(given: str | None) -> None:
    assert "conn_id" not in make(aws_conn_id=given).hook.cluster_ref.options


def test_the_default_connection_need_not_exist(lines: Callable[[], list[str]]) -> None:
    operator: Any = quiet(make())
    assert "conn_id" not in operator.hook.cluster_ref.options
    assert "There is no connection 'aws_default': the credentials are those of this process." in lines()


def test_one_that_is_named_must_exist() -> None:
    with pytest.raises(ConfigurationError, match="There is no connection 'aws_elsewhere'"):
        _ = make(aws_conn_id="aws_elsewhere").hook.access


def test_the_default_connection_is_used_where_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", '{"conn_type": "aws"}')
    assert make().hook.cluster_ref.options["conn_id"] == "aws_default"
    # A profile says as well whose credentials are meant.
    chosen = make(cluster_options={"profile": "gpu"}).hook.cluster_ref.options
    assert (chosen["profile"], chosen.get("conn_id")) == ("gpu", None)


def test_name_is_another_word_for_pod_name() -> None:
    assert make(name="a").name == make(pod_name="a").name == "a"
    with pytest.raises(ConfigurationError, match="name='a' and pod_name='b', which mean the same"):
        make(name="a", pod_name="b")


def test_defaults_are_those_of_the_provider_s_operator() -> None:
    operator = make()
    assert (operator.namespace, operator.on_finish_action.value) == ("default", "delete_pod")
    assert make(on_finish_action="keep_pod").on_finish_action.value == "keep_pod"
    assert isinstance(operator, KubernetesPodOperator)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_cluster": True}, "EksPodOperator 'task' does not take in_cluster=True: it names its cluster by"),
        ({"config_file": "/kube"}, "does not take config_file.* such as cluster=eks"),
        ({"cluster_context": "gpu"}, "does not take cluster_context"),
        ({"kubernetes_conn_id": "kube"}, "does not take kubernetes_conn_id"),
        ({"cluster_name": ""}, "The EKS cluster from the arguments of EksPodOperator 'task' names no cluster"),
        (
            {"cluster_options": {"rolearn": "x"}},
            "cluster_options of EksPodOperator 'task': eks.* no option rolearn",
        ),
        ({"cluster_options": {"role_arn": "x"}}, "'x'.* is not like arn:aws:iam::"),
        ({"cluster_options": {"conn_id": "x"}}, "conn_id, which has an argument of its own: .* aws_conn_id"),
        ({"cluster_options": {"region": "x"}}, "region, which has an argument of its own: use region"),
        ({"cluster_options": {"namespace": "x"}}, "namespace, which has an argument of its own: use namespace"),
        ({"cluster_options": 3}, "cluster_options must be a mapping of options, not int"),
        ({"in_cluster": "False"}, "in_cluster must be True, False or None"),
    ],
)
def test_what_cannot_work_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**arguments)


def test_what_would_be_stored_is_refused_when_it_is_secret() -> None:
    # Nothing of an EKS cluster is; the connection's keys are looked up again where the task is deferred to.
    assert make(deferrable=True, aws_conn_id="aws_remote").hook.cluster_ref.portable


def test_what_a_template_becomes_is_checked_when_it_is_known() -> None:
    with DAG("dag", schedule=None):
        operator = make(in_cluster="{{ True }}")
    with pytest.raises(ConfigurationError, match="does not take in_cluster=True"):
        operator.render_template_fields(context_of(FakeTaskInstance("task")))


def test_it_can_be_mapped() -> None:
    with DAG("dag", schedule=None) as dag:
        EksPodOperator.partial(task_id="mapped", cluster_name="gpu", region="us-east-2").expand(
            arguments=[["a"], ["b"]]
        )
    assert dag.has_task("mapped")
