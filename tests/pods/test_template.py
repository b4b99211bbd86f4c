"""Templates in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.pods.template import load_template


def test_yaml_and_json(tmp_path: Path) -> None:
    container = {"name": "a", "args": [1, True], "env": [{"name": "A", "value": 5}]}
    file = tmp_path / "pod"
    file.write_text("kind: pod\nspec: {containers: [{name: a, args: [1, yes], env: [{name: A, value: 5}]}]}")
    from_yaml = load_template(str(file))
    file.write_text(json.dumps({"kind": "pod", "spec": {"containers": [container]}}))
    assert from_yaml == load_template(str(file))
    assert from_yaml["spec"]["containers"] == [
        {"name": "a", "args": ["1", "True"], "env": [{"name": "A", "value": "5"}]}
    ]


def test_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        load_template("pods/base.yaml")
    assert str(caught.value).startswith("pod_template_file pods/base.yaml cannot be read: No such file or directory.")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\xfa", "cannot be read: it is not UTF-8"),
        (b"spec: [secret", r"is not valid YAML at line \d, column \d+: .*expected ',' or '\]'"),
        (b"a: 1\n---\nb: 2\n", "is not valid YAML"),
        (b"!!python/object:os.system {}", "is not valid YAML"),
        (b"", "is empty"),
        (b"- secret", "must be a dictionary or a V1Pod, got list"),
        (b"kind: Deployment\nspec: {}", "holds a Deployment, not a Pod"),
        (b"spec: {containers: secret}", r"spec\.containers must be a list"),
    ],
)
def test_a_file_that_holds_no_pod(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "pod.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"^pod_template_file .*{message}") as caught:
        load_template(str(file))
    assert "secret" not in str(caught.value)


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load_template(str(tmp_path))
