from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.auth import registry
from kpo_multicluster.auth.access import TokenSource
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import ExecPluginError

V1BETA1 = "client.authentication.k8s.io/v1beta1"
ROLE_B = "arn:aws:iam::222222222222:role/airflow-pods"
GET_TOKEN = ["--region", "us-east-2", "eks", "get-token", "--cluster-name", "gpu", "--output", "json"]

Tokens = Callable[..., TokenSource]


@pytest.fixture
def tokens(aws: Any, write_kubeconfig: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tokens:
    """The tokens of a kubeconfig whose user runs a command, on a host without any."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def make(command: str, arguments: list[str], **env: str) -> TokenSource:
        variables = [{"name": name, "value": value} for name, value in env.items()] or None
        entry = {"apiVersion": V1BETA1, "command": command, "args": arguments, "env": variables}
        access = registry.resolve(kubeconfig(str(write_kubeconfig(user={"exec": entry}))))
        assert access.tokens is not None
        return access.tokens

    return make


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("aws", GET_TOKEN),
        ("/usr/local/bin/aws", ["eks", "get-token", "--cluster-name=gpu", "--region=us-east-2"]),
        ("aws", ["eks", "get-token", "--cluster-id", "gpu", "--no-cli-pager"]),
        ("aws-iam-authenticator", ["token", "-i", "gpu"]),
        ("aws-iam-authenticator", ["token", "--cluster-id", "gpu", "--region", "us-east-2", "--cache"]),
    ],
)
def test_the_token_is_made_in_process(
    tokens: Tokens, aws: Any, arn_of: Callable[..., str], command: str, arguments: list[str]
) -> None:
    source = tokens(command, arguments)
    token = source.current()
    assert arn_of("gpu", token.value) == "arn:aws:iam::111111111111:user/airflow"
    assert token.expires_at is not None
    assert source.replace(token).value
    assert aws.record.paths() == []


@pytest.mark.parametrize(
    ("command", "arguments", "session"),
    [
        ("aws", [*GET_TOKEN, "--role-arn", ROLE_B], "EKSGetTokenAuth"),
        ("aws", [*GET_TOKEN, "--role-arn", ROLE_B, "--session-name", "mine"], "mine"),
        ("aws-iam-authenticator", ["token", "-i", "gpu", "-r", ROLE_B, "-s", "mine", "-e", "ext-1"], "mine"),
    ],
)
def test_a_role(
    tokens: Tokens,
    aws: Any,
    arn_of: Callable[..., str],
    command: str,
    arguments: list[str],
    session: str,
) -> None:
    arn = arn_of("gpu", tokens(command, arguments).current().value)
    assert arn == f"arn:aws:sts::222222222222:assumed-role/airflow-pods/{session}"
    assert ("ExternalId=ext-1" in aws.record.all()[0].body.decode()) == ("-e" in arguments)


def test_the_environment_of_the_kubeconfig(
    tokens: Tokens, aws: Any, user: Any, arn_of: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "elsewhere").write_text(
        f"[gpu]\naws_access_key_id={user.access_key}\naws_secret_access_key={user.secret_key}\n"
    )
    source = tokens("aws", GET_TOKEN, AWS_PROFILE="gpu", AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "elsewhere"))
    assert arn_of("gpu", source.current().value)
    source = tokens("aws", GET_TOKEN, AWS_ACCESS_KEY_ID=user.access_key, AWS_SECRET_ACCESS_KEY=user.secret_key)
    assert arn_of("gpu", source.current().value)
    source = tokens(
        "aws-iam-authenticator",
        ["token"],
        AWS_ACCESS_KEY_ID=user.access_key,
        AWS_SECRET_ACCESS_KEY=user.secret_key,
        KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID="gpu",
        DEFAULT_ROLE=ROLE_B,
    )
    assert arn_of("gpu", source.current().value).endswith("airflow-pods/kpo-multicluster")


def test_whose_keys_win(
    tokens: Tokens, aws: Any, arn_of: Callable[..., str], refused: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / "aws-credentials").write_text("[other]\naws_access_key_id=AKIAOTHER\naws_secret_access_key=x\n")
    named_by_environment = tokens("aws", GET_TOKEN, AWS_PROFILE="other").current()
    assert arn_of("gpu", named_by_environment.value)
    named_by_argument = tokens("aws", [*GET_TOKEN, "--profile", "other"]).current()
    with pytest.raises(refused, match="InvalidClientTokenId"):
        arn_of("gpu", named_by_argument.value)


def test_the_region(tokens: Tokens, user: Any, tmp_path: Path) -> None:
    import base64

    def host(source: TokenSource) -> str:
        text = source.current().value.removeprefix("k8s-aws-v1.")
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split("/")[2]

    plain = ["eks", "get-token", "--cluster-name", "gpu"]
    assert host(tokens("aws", plain)) == "sts.us-east-1.amazonaws.com"
    assert host(tokens("aws", plain, AWS_REGION="eu-west-1")) == "sts.eu-west-1.amazonaws.com"
    (tmp_path / "aws-config").write_text("[profile cn]\nregion=cn-north-1\n")
    assert host(tokens("aws", [*plain, "--profile", "cn"], **keys(user))) == "sts.cn-north-1.amazonaws.com.cn"


def keys(user: Any) -> dict[str, str]:
    from configparser import ConfigParser
    from os import environ

    path = environ["AWS_SHARED_CREDENTIALS_FILE"]
    written = ConfigParser()
    written["cn"] = {"aws_access_key_id": user.access_key, "aws_secret_access_key": user.secret_key}
    with open(path, "w") as file:
        written.write(file)
    return {}


@pytest.mark.parametrize(
    ("command", "arguments", "env", "reason"),
    [
        ("aws", ["eks", "get-token"], {}, "its arguments name no cluster"),
        ("aws", ["sts", "get-caller-identity"], {}, "it is not called as 'aws eks get-token'"),
        ("aws", [*GET_TOKEN, "--endpoint-url", "http://x"], {}, "its argument --endpoint-url is not understood"),
        ("aws", [*GET_TOKEN, "--role-arn"], {}, "its argument --role-arn is not understood"),
        ("aws", GET_TOKEN, {"AWS_ROLE_ARN": "x"}, "its environment variable AWS_ROLE_ARN is not understood"),
        ("aws-iam-authenticator", ["token", "-i", "gpu", "--forward-session-name"], {}, "--forward-session-name"),
    ],
)
def test_what_it_does_not_understand_is_run(
    tokens: Tokens,
    script: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    arguments: list[str],
    env: dict[str, str],
    reason: str,
) -> None:
    with pytest.raises(ExecPluginError, match="is not on the PATH of this process, and it cannot be served") as caught:
        tokens(command, arguments, **env).current()
    assert reason in str(caught.value)
    assert "exec of user 'u' of" in str(caught.value)
    answer = f'{{"apiVersion":"{V1BETA1}","kind":"ExecCredential","status":{{"token":"from-the-command"}}}}'
    path = script(command, f"echo '{answer}'")
    monkeypatch.setenv("PATH", str(path.parent))
    assert tokens(command, arguments, **env).current().value == "from-the-command"


def test_without_boto3(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(ExecPluginError, match=r"not on the PATH.* pip install 'kpo-multicluster\[eks\]'"):
        tokens("aws", GET_TOKEN).current()


def test_what_aws_refuses_is_told_of_the_plugin(tokens: Tokens, aws: Any) -> None:
    aws.faults.refuse("AssumeRole$", 403, "AccessDenied", "no")
    with pytest.raises(
        ExecPluginError, match=r"'aws' \(exec of user 'u'.*served in process, failed\. arn:aws:iam::1111"
    ):
        tokens("aws", [*GET_TOKEN, "--role-arn", ROLE_B]).current()
