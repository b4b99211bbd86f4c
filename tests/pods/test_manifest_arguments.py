"""Manifests from arguments alone."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.pods.labels import ATTEMPT_ANNOTATION, RUN_ANNOTATION
from kpo_multicluster.pods.manifest import PodArguments, RunIdentity, build_manifest, check_arguments

RUN = RunIdentity(
    task_id="task", airflow_version="3.3.2", dag_id="dag", run_id="run", try_number=2, attempt="0190", in_cluster=False
)


def build(run: RunIdentity = RUN, **arguments: Any) -> dict[str, Any]:
    return build_manifest(PodArguments(**arguments), run, name_suffix=lambda: "abcd1234")


def base(**arguments: Any) -> dict[str, Any]:
    container: dict[str, Any] = build(**arguments)["spec"]["containers"][0]
    return container


def secret(deploy_type: str, target: str | None, name: str, key: str | None = None, items: Any = None) -> Any:
    return SimpleNamespace(deploy_type=deploy_type, deploy_target=target, secret=name, key=key, items=items)


def test_a_plain_pod() -> None:
    assert build(image="alpine", cmds=["echo"], arguments=["hello"], env_vars={"A": "1"}) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "task-abcd1234",
            "namespace": "default",
            "labels": {
                "dag_id": "dag",
                "task_id": "task",
                "run_id": "run",
                "kubernetes_pod_operator": "True",
                "try_number": "2",
                "airflow_version": "3.3.2",
                "airflow_kpo_in_cluster": "False",
            },
            "annotations": {ATTEMPT_ANNOTATION: "0190", RUN_ANNOTATION: "dag/run"},
        },
        "spec": {
            "containers": [
                {
                    "name": "base",
                    "image": "alpine",
                    "command": ["echo"],
                    "args": ["hello"],
                    "env": [{"name": "A", "value": "1"}],
                    "terminationMessagePolicy": "File",
                }
            ],
            "restartPolicy": "Never",
        },
    }


def test_building_changes_nothing_and_shares_nothing() -> None:
    arguments = PodArguments(
        labels={"a": "b"},
        env_vars=[{"name": "A", "value": "1"}],
        pod_runtime_info_envs=[{"name": "B"}],
        volumes=[{"name": "v", "emptyDir": {}}],
        secrets=[secret("volume", "/s", "s", items=[{"key": "k", "path": "p"}]), secret("env", "A", "s", "k")],
        pod_template_dict={"metadata": {"labels": {"t": "t"}}, "spec": {"containers": [{"name": "base", "env": []}]}},
        do_xcom_push=True,
    )
    before = copy.deepcopy({field.name: getattr(arguments, field.name) for field in fields(arguments)})
    first, second = (build_manifest(arguments, RUN, name_suffix=lambda: "s") for _ in range(2))
    assert first == second
    _empty(first)
    assert build_manifest(arguments, RUN, name_suffix=lambda: "s") == second
    after = {field.name: getattr(arguments, field.name) for field in fields(arguments)}
    assert {name: after[name] for name in after if name != "secrets"} == {
        name: before[name] for name in before if name != "secrets"
    }


def _empty(part: Any) -> None:
    for item in list(part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()):
        _empty(item)
    if isinstance(part, (dict, list)):
        part.clear()


@pytest.mark.parametrize(
    ("arguments", "cluster_namespace", "namespace"),
    [
        ({}, None, "default"),
        ({}, "of-cluster", "of-cluster"),
        ({"pod_template_dict": {"metadata": {"namespace": "of-template"}}}, "of-cluster", "of-template"),
        ({"namespace": "given", "full_pod_spec": {"metadata": {"namespace": "of-template"}}}, "of-cluster", "given"),
    ],
)
def test_namespace(arguments: Any, cluster_namespace: str | None, namespace: str) -> None:
    pod = build(replace(RUN, cluster_namespace=cluster_namespace), **arguments)
    assert pod["metadata"]["namespace"] == namespace


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "task-abcd1234"),
        ({"random_name_suffix": False}, "task"),
        ({"random_name_suffix": "False"}, "task"),
        ({"name": "Given_1"}, "given-1-abcd1234"),
        ({"name": "-given", "random_name_suffix": False}, "given"),
        ({"pod_template_dict": {"metadata": {"name": "of.template"}}}, "of.template-abcd1234"),
        ({"name": "g", "full_pod_spec": {"metadata": {"name": "of-spec"}}, "random_name_suffix": False}, "g"),
    ],
)
def test_name(arguments: Any, name: str) -> None:
    assert build(**arguments)["metadata"]["name"] == name


def test_metadata_is_text_and_the_runs_own_labels_win() -> None:
    pod = build(
        labels={"n": 1, "b": True, "none": None, "dag_id": "x"}, annotations={"rank": 7, ATTEMPT_ANNOTATION: "x"}
    )
    labels = pod["metadata"]["labels"]
    assert (labels["n"], labels["b"], labels["none"], labels["dag_id"]) == ("1", "True", "", "dag")
    assert pod["metadata"]["annotations"] == {"rank": "7", ATTEMPT_ANNOTATION: "0190", RUN_ANNOTATION: "dag/run"}


def test_a_dry_run_names_no_run() -> None:
    pod = build(RunIdentity(task_id="task", airflow_version="3.3.2"))
    assert pod["metadata"]["labels"] == {"airflow_version": "3.3.2"}
    assert "annotations" not in pod["metadata"]


@pytest.mark.parametrize(
    ("env_vars", "env"),
    [
        ({"A": 1, "B": None, "C": ""}, [{"name": "A", "value": "1"}, {"name": "B"}, {"name": "C", "value": ""}]),
        ([{"name": "A", "value": 1.5}], [{"name": "A", "value": "1.5"}]),
        (({"name": "A"},), [{"name": "A"}]),
        (
            [{"name": "A", "value_from": {"field_ref": {"field_path": "spec.nodeName"}}}],
            [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        ),
    ],
)
def test_environment(env_vars: Any, env: Any) -> None:
    assert base(env_vars=env_vars)["env"] == env


def test_sources_of_the_environment_in_their_order() -> None:
    container = base(
        env_vars={"A": "1"},
        pod_runtime_info_envs=[{"name": "B"}],
        env_from=[{"secretRef": {"name": "s"}}],
        configmaps=["c"],
        secrets=[secret("env", "T", "vault", "k"), secret("env", None, "all")],
    )
    assert container["env"] == [
        {"name": "A", "value": "1"},
        {"name": "B"},
        {"name": "T", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "k"}}},
    ]
    assert container["envFrom"] == [
        {"secretRef": {"name": "s"}},
        {"configMapRef": {"name": "c"}},
        {"secretRef": {"name": "all"}},
    ]


def test_secret_volumes_have_names_of_their_own_that_stay() -> None:
    secrets = [secret("volume", "/one", "s", items=[{"key": "k", "path": "p"}]), secret("volume", "/one", "s")]
    pod = build(
        secrets=secrets, volumes=[{"name": "v", "emptyDir": {}}], volume_mounts=[{"name": "v", "mountPath": "/v"}]
    )
    volumes, mounts = pod["spec"]["volumes"], pod["spec"]["containers"][0]["volumeMounts"]
    assert [volume.get("secret") for volume in volumes] == [
        None,
        {"secretName": "s", "items": [{"key": "k", "path": "p"}]},
        {"secretName": "s"},
    ]
    assert [mount["name"] for mount in mounts] == [volume["name"] for volume in volumes]
    assert mounts[1] == {"name": volumes[1]["name"], "mountPath": "/one", "readOnly": True}
    assert len({volume["name"] for volume in volumes}) == 3
    assert all(len(volume["name"]) <= 63 for volume in volumes)
    assert volumes == build(secrets=secrets, volumes=[{"name": "v", "emptyDir": {}}])["spec"]["volumes"]


@pytest.mark.parametrize("references", ["a, b,", ["a", "b"], [{"name": "a"}, {"name": "b"}], ("a", {"name": "b"})])
def test_image_pull_secrets(references: Any) -> None:
    assert build(image_pull_secrets=references)["spec"]["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]


def test_the_sidecar() -> None:
    pod = build(
        do_xcom_push=True,
        volumes=[{"name": "v", "emptyDir": {}}],
        volume_mounts=[{"name": "v", "mountPath": "/v"}],
        xcom_sidecar_container_image="mirror/alpine:1",
        xcom_sidecar_container_security_context={},
    )
    mount = {"name": "xcom", "mountPath": "/airflow/xcom"}
    assert pod["spec"]["volumes"] == [{"name": "xcom", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]
    main, sidecar = pod["spec"]["containers"]
    assert main["volumeMounts"] == [mount, {"name": "v", "mountPath": "/v"}]
    assert sidecar == {
        "name": "airflow-xcom-sidecar",
        "image": "mirror/alpine:1",
        "command": ["sh", "-c", 'trap "exit 0" INT; while true; do sleep 1; done;'],
        "resources": {"requests": {"cpu": "1m", "memory": "10Mi"}},
        "securityContext": {},
        "volumeMounts": [mount],
    }


def test_the_sidecars_own_resources_and_security() -> None:
    pod = build(
        do_xcom_push=True,
        xcom_sidecar_container_resources={"limit_memory": "32Mi"},
        xcom_sidecar_container_security_context={"run_as_user": 1},
    )
    sidecar = pod["spec"]["containers"][1]
    assert sidecar["image"] == "alpine:3.24.2"
    assert sidecar["resources"] == {"limits": {"memory": "32Mi"}}
    assert sidecar["securityContext"] == {"runAsUser": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cmds": "echo hi"}, "cmds must be a list, each item a text, got str"),
        ({"arguments": {"a": 1}}, "arguments must be a list, each item a text, got dict"),
        ({"labels": ["a"]}, "labels must be a dictionary of texts, got list"),
        ({"env_vars": "A=1"}, "env_vars must be a list, each item a dictionary or a V1EnvVar, got str"),
        ({"env_vars": {"A": {"hunter2": 1}}}, r"env_vars\['A'\] must be a text, got dict"),
        ({"env_vars": {("A",): "hunter2"}}, "a name in env_vars must be a text, got tuple"),
        ({"volumes": [3]}, r"volumes\[0\] must be a dictionary or a V1Volume, got int"),
        ({"volumes": {"name": "v"}}, "volumes must be a list"),
        ({"ports": [8080]}, r"ports\[0\] must be a dictionary or a V1ContainerPort, got int"),
        ({"configmaps": "one"}, "configmaps must be a list, each item a text, got str"),
        ({"tolerations": [{"tolerationSeconds": "soon"}]}, r"tolerations\[0\]\.tolerationSeconds must be an integer"),
        ({"affinity": 1}, "affinity must be a dictionary or a V1Affinity, got int"),
        ({"security_context": 1}, "security_context must be a dictionary or a V1PodSecurityContext, got int"),
        ({"container_resources": "hunter2"}, "container_resources must be a dictionary or a V1ResourceRequirements"),
        ({"termination_grace_period": "hunter2"}, "termination_grace_period must be an integer, got a str"),
        ({"hostnetwork": 1}, "hostnetwork must be True or False, got int"),
        ({"image_pull_secrets": 5}, "image_pull_secrets must be a list"),
        ({"node_selector": [1]}, "node_selector must be a dictionary of texts, got list"),
        ({"full_pod_spec": [1]}, "full_pod_spec must be a dictionary or a V1Pod, got list"),
        ({"full_pod_spec": {"kind": "Job"}}, "full_pod_spec holds a Job, not a Pod"),
        ({"pod_template_dict": {"spec": []}}, "pod_template_dict.spec must be a dictionary or a V1PodSpec, got list"),
        ({"name": "no spaces"}, "name 'no spaces' holds characters"),
        ({"base_container_name": 1.5j}, "base_container_name must be a text, got complex"),
        ({"secrets": "vault"}, "secrets must be a list of Secret, got str"),
        ({"secrets": [{"secret": "s"}]}, r"secrets\[0\] must be a Secret .*, got dict"),
        ({"secrets": [secret("file", "/s", "s")]}, r"secrets\[0\]\.deploy_type must be 'env' or 'volume', got 'file'"),
    ],
)
def test_wrong_arguments_are_named_when_parsed_and_when_built(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        build(**arguments)
    with pytest.raises(ConfigurationError, match=f"^{message}") as caught:
        check_arguments(PodArguments(**arguments))
    assert "hunter2" not in str(caught.value)


def test_what_a_template_may_yet_become_is_not_refused_when_parsed() -> None:
    later = SimpleNamespace(resolve=lambda context: None)
    templated = PodArguments(
        cmds="{{ params.cmds }}",
        arguments=later,  # type: ignore[arg-type]
        pod_template_dict={
            "spec": {"activeDeadlineSeconds": "{{ params.deadline }}", "volumes": "{{ params.volumes }}"}
        },
        env_vars="{{ params.env }}",
        name="{{ params.name }}",
    )
    names = {"cmds", "arguments", "pod_template_dict", "env_vars", "name"}
    check_arguments(templated, names)
    for name in names:
        with pytest.raises(ConfigurationError, match=f"^{name}"):
            check_arguments(templated, names - {name})


def test_a_plainly_wrong_type_is_refused_also_where_templates_are_rendered() -> None:
    with pytest.raises(ConfigurationError, match=r"^image must be a text, got list"):
        check_arguments(PodArguments(image=["alpine"]), {"image"})  # type: ignore[arg-type]


def test_defaults_pass() -> None:
    check_arguments(PodArguments())


def test_manifests_need_neither_airflow_nor_a_kubernetes_client() -> None:
    modules = "manifest, merge, naming, labels, convert, sidecar, secret, template, overlay, schema, xcom"
    code = (
        f"import sys; from kpo_multicluster.pods import {modules}\n"
        "from kpo_multicluster.pods.manifest import *\n"
        "build_manifest(PodArguments(image='a'), RunIdentity(task_id='t', airflow_version='3'))\n"
        "print(*({'airflow', 'kubernetes', 'aiohttp', 'yaml', 'slugify'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
