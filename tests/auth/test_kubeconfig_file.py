from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpo_multicluster.auth.kubeconfig import KubeconfigResolver
from kpo_multicluster.auth.kubeconfig_file import read_document, read_paths
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import KubeconfigError


def config(name: str, *, user: str = "u", token: str = "t", current: str | None = None) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:6443"}}],
        "users": [{"name": user, "user": {"token": token}}],
    }
    return whole if current is None else {**whole, "current-context": current}


def token_of(path: str | None, context: str | None = None) -> str:
    tokens = KubeconfigResolver().resolve(kubeconfig(path, context=context)).tokens
    assert tokens is not None
    return tokens.current().value


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(path: Path, content: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_the_path_given_then_the_variable_then_the_home_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory / ".kube/config", config("home", token="home", current="home"))
    assert token_of(None) == "home"
    monkeypatch.setenv("KUBECONFIG", "")
    assert token_of(None) == "home"
    monkeypatch.setenv("KUBECONFIG", write(directory / "variable", config("v", token="variable", current="v")))
    assert token_of(None) == "variable"
    write(directory / "given", config("g", token="given", current="g"))
    assert token_of(str(directory / "given")) == "given"
    assert token_of("~/given") == "given"
    monkeypatch.chdir(directory)
    assert token_of("given") == "given"
    monkeypatch.setenv("GPU_KUBECONFIG", "~/absent:~/given")
    assert token_of("env:GPU_KUBECONFIG") == "given"


def test_of_several_files_the_first_definition_of_a_name_wins(directory: Path) -> None:
    first = write(directory / "1", config("alpha", user="both", token="first"))
    second = write(directory / "2", config("beta", user="both", token="second", current="beta"))
    third = write(directory / "3", config("alpha", user="third", token="third", current="alpha"))
    joined = f"{directory / 'absent'}:{first}::{second}:{third}:{first}"
    assert token_of(joined) == "first", "the context is beta's, its user the first file's"
    assert KubeconfigResolver().resolve(kubeconfig(joined)).server == "https://beta:6443"
    assert token_of(joined, "alpha") == "first"
    access = KubeconfigResolver().resolve(kubeconfig(joined, context="alpha"))
    assert access.source == f"context 'alpha' of {first}"


def test_relative_paths_start_from_the_file_they_stand_in(directory: Path, ca: Any) -> None:
    here, there = config("c", current="c"), config("c", user="u")
    del here["users"], there["contexts"], there["clusters"]
    here["clusters"][0]["cluster"]["certificate-authority"] = "pki/ca.crt"
    there["users"][0]["user"] = {"tokenFile": "token"}
    first, second = write(directory / "a/config", here), write(directory / "b/config", there)
    (directory / "a/pki").mkdir()
    (directory / "a/pki/ca.crt").write_bytes(ca.cert_pem.bytes())
    (directory / "b/token").write_text("from-b")
    assert token_of(f"{first}:{second}") == "from-b"
    assert KubeconfigResolver().resolve(kubeconfig(f"{first}:{second}")).ca_pem == ca.cert_pem.bytes().decode()


def test_a_document_as_mapping_as_json_and_as_yaml(directory: Path) -> None:
    content = config("c", token="inline", current="c")
    for document in (
        content,
        json.dumps(content, indent="\t"),
        yaml.safe_dump(content),
        f"\ufeff{json.dumps(content)}",
    ):
        ref = kubeconfig(document=document)
        tokens = KubeconfigResolver().resolve(ref).tokens
        assert tokens is not None
        assert tokens.current().value == "inline"
        assert not ref.portable


def test_an_empty_file_has_no_contexts(directory: Path) -> None:
    (directory / "empty").touch()
    with pytest.raises(KubeconfigError, match=r"empty sets no current-context; its contexts are: none"):
        token_of(str(directory / "empty"))


def test_missing_files_are_named_with_the_host_and_who_named_them(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = socket.gethostname()
    with pytest.raises(KubeconfigError, match=rf"on host {host} at /absent/a, /absent/b \(the cluster= argument\)"):
        token_of("/absent/a:/absent/b")
    with pytest.raises(KubeconfigError, match=rf"at {directory}/.kube/config \(the default, as .* \$KUBECONFIG is not"):
        token_of(None)
    monkeypatch.setenv("KUBECONFIG", "/absent/c")
    with pytest.raises(KubeconfigError, match=r"at /absent/c \(\$KUBECONFIG\)"):
        token_of(None)
    with pytest.raises(KubeconfigError, match=r"variable GPU_CONFIG, which the cluster= argument names .* is not set"):
        token_of("env:GPU_CONFIG")


def test_a_directory(directory: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"cannot be read on host .*: Is a directory"):
        token_of(str(directory))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("users:\n- name: u\n  user: {token: *s3cret}\n", r"not valid YAML at line 3, column 17"),
        ("users:\n\t- s3cret", r"not valid YAML at line 2, column 1"),
        ('{"users": s3cret', r"not valid YAML at line 1"),
        ("a: s3cret\n---\nb: s3cret\n", r"not valid YAML at line 2"),
        ("a: !s3cret x", r"not valid YAML at line 1, column 4"),
        ("a: 2024-99-99 # s3cret", r"not valid YAML"),
        ("s3cret", r"is not a kubeconfig: it must be a mapping"),
        ("[s3cret]", r"is not a kubeconfig"),
        ("contexts: s3cret", r"field contexts of .* must be a list of mappings"),
        ("users: [s3cret]", r"field users of .* must be a list of mappings"),
        ("users: [{user: {token: s3cret}}]", r"item of users of .* has no name"),
        ("users: [{name: 1}]", r"field name of an item of users .* must be text; put the value in quotes"),
        ("users: [{name: u, user: s3cret}]", r"field user of an item of users of .* must be a mapping"),
        ("users: [{name: u}, {name: u}]", r"defines the user 'u' twice"),
        ("current-context: [s3cret]", r"field current-context of .* must be text"),
    ],
)
def test_malformed_content_is_refused_and_not_shown(directory: Path, content: str, message: str) -> None:
    path = directory / "config"
    path.write_text(content)
    with pytest.raises(KubeconfigError, match=message) as caught:
        read_paths(str(path), source="connection 'gpu'")
    assert str(path) in str(caught.value)
    with pytest.raises(KubeconfigError, match=message.replace("its contexts", "")) as inline:
        read_document(content, source="connection 'gpu'")
    assert "connection 'gpu'" in str(inline.value)
    for error in (caught.value, inline.value):
        assert "s3cret" not in str(error)
        assert error.__cause__ is None
        assert error.__context__ is None


def test_bytes_that_are_no_text(directory: Path) -> None:
    path = directory / "config"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KubeconfigError, match="not UTF-8 text"):
        token_of(str(path))
