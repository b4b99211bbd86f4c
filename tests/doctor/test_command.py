"""`kpo-multicluster doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.cli import main
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .servers import closed_port


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kpo_multicluster.cli", "doctor", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_kubeconfig(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--kubeconfig", str(config), "--context", "alpha"]) == 0
    told = capsys.readouterr().out
    assert "connection     ok" in told
    assert "from the command line" in told
    assert "permissions    ok" in told


def test_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--kubeconfig", str(config), "--namespace", "default", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["well"] is True
    assert found["cluster"]["options"] == {"path": str(config)}


def test_what_is_wrong_is_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--kubeconfig", str(tmp_path / "none")]) == 1
    told = capsys.readouterr().out
    assert "credentials    failed" in told
    assert "permissions    not reached" in told
    assert main(["doctor", "--in-cluster"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--eks", "gpu", "--location", "x"], "The command line has location, which a cluster of kind 'eks' does not"),
        (["--kubeconfig", "/k", "--region", "x"], "has region, which a cluster of kind 'kubeconfig' does not take"),
        (["--in-cluster", "--context", "x"], "has context, which a cluster of kind 'in_cluster' does not take"),
        (["conn", "--role-arn", "x"], "A connection takes no --role-arn: write it into the connection"),
        (["--gke", "gpu"], "The GKE cluster from the command line names no location"),
        (["--aks", "a", "--resource-group", "r", "--client-secret", "hunter2"], "give --client-secret env:NAME"),
    ],
)
def test_misuse(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "hunter2" not in told


@pytest.mark.parametrize("arguments", [[], ["conn", "--in-cluster"], ["conn", "--timeout-seconds", "0"]])
def test_what_cannot_be_parsed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", *arguments])
    assert caught.value.code == 2
    assert "usage: kpo-multicluster doctor (CONN_ID | --eks NAME" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["soon", "nan", "-1", "3601"])
def test_what_is_no_time(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "conn", f"--timeout-seconds={seconds}"])
    assert "must be a number of seconds, more than 0 and at most 3600" in capsys.readouterr().err


def test_the_clouds_are_asked_with_the_options_given(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "hunter2hunter2", "AWS_EC2_METADATA_DISABLED": "true"}
    ran = run("--eks", "gpu", "--region", "us-east-2", "--eks-endpoint-url", address, "--timeout-seconds", "60", **keys)
    assert ran.returncode == 1, ran.stderr
    assert "region" in ran.stdout
    assert address in ran.stdout
    assert "hunter2" not in ran.stdout + ran.stderr


def test_a_connection_of_airflow_by_its_environment(
    cluster: EmbeddedCluster, config: Path, by_token: Callable[..., ClusterRef]
) -> None:
    part: dict[str, Any] = {"auth": "token", "server": cluster.server, "token": cluster.token()}
    connection = {"conn_type": "kubernetes", "extra": {"cluster": {**part, "ca_data": cluster.ca_pem}}}
    ran = run("gpu", "--json", "--timeout-seconds", "60", AIRFLOW_CONN_GPU=json.dumps(connection))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["well"] is True
    assert "(not shown)" in found["steps"][0]["found"]
    assert cluster.token() not in ran.stdout + ran.stderr
    ran = run("nowhere")
    assert ran.returncode == 1
    assert "There is no connection 'nowhere'" in ran.stdout


def test_only_a_connection_needs_airflow() -> None:
    code = (
        "import sys; from kpo_multicluster.cli import main; main(['doctor', '--kubeconfig', '/none']); "
        "main(['local', 'status', '--name', 'x']); print([name for name in ('airflow', 'kubernetes', 'boto3') "
        "if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]"
