"""Images that are put into the store are served under every registry's name."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import images, registry
from .errors import ClusterError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    layer = images.archive({"bin/": b"", "bin/tool": b"#!/bin/sh\n", "bin/other": "tool"})
    images.add("tool", ["1.0"], [layer], {"Cmd": ["tool"]}, store=tmp_path)
    images.add("any", [registry.ANY_TAG], [layer], {}, store=tmp_path)
    return tmp_path


@pytest.fixture
def server(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(registry.Handler, "log_message", lambda *arguments: None)
    with registry.serve("127.0.0.1", 0, store) as served:
        thread = threading.Thread(target=served.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def fetch(url: str, method: str = "GET") -> tuple[bytes, Any]:
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
        return answer.read(), answer.headers


@pytest.mark.parametrize("name", ["tool", "library/tool", "some/registry/tool"])
def test_an_image_is_pulled_by_its_last_name(server: str, name: str) -> None:
    body, headers = fetch(f"{server}/v2/{name}/manifests/1.0?ns=registry.example")
    manifest = json.loads(body)
    assert headers["Docker-Content-Digest"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert headers["Content-Type"] == manifest["mediaType"]
    for described in (manifest["config"], *manifest["layers"]):
        blob, _ = fetch(f"{server}/v2/{name}/blobs/{described['digest']}")
        assert (f"sha256:{hashlib.sha256(blob).hexdigest()}", len(blob)) == (described["digest"], described["size"])
    config = json.loads(fetch(f"{server}/v2/{name}/blobs/{manifest['config']['digest']}")[0])
    assert config["config"]["Cmd"] == ["tool"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]


def test_head_tells_the_digest_that_get_would(server: str) -> None:
    body, headers = fetch(f"{server}/v2/any/manifests/whatever", "HEAD")
    assert body == b""
    digest = headers["Docker-Content-Digest"]
    assert fetch(f"{server}/v2/any/manifests/{digest}")[1]["Content-Length"] == headers["Content-Length"]


@pytest.mark.parametrize(
    "path",
    [
        "tool/manifests/2.0",
        "unknown/manifests/1.0",
        "tool/manifests/..%2f..%2findex.json",
        "tool/blobs/sha256:" + "0" * 64,
        "tool/blobs/..",
        "tool/tags/list",
    ],
)
def test_anything_else_is_not_found(server: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(f"{server}/v2/{path}")
    with refused.value as answer:
        assert answer.code == 404
        assert json.load(answer)["errors"][0]["code"] in ("MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "UNSUPPORTED")


def test_an_image_that_is_added_later_is_served(server: str, store: Path) -> None:
    images.add("tool", ["2.0"], [images.archive({"new": b"new"})], {}, store=store)
    manifest = json.loads(fetch(f"{server}/v2/tool/manifests/2.0")[0])
    blob, _ = fetch(f"{server}/v2/tool/blobs/{manifest['layers'][0]['digest']}")
    with tarfile.open(fileobj=io.BytesIO(blob)) as layer:
        assert layer.getnames() == ["new"]


def test_an_image_on_top_of_another_has_its_layers_first(server: str, store: Path) -> None:
    own = images.archive({"more": b"more"})
    images.add("more", ["1"], [own], {"Cmd": ["more"]}, base=("tool", "1.0"), store=store)
    below = json.loads(fetch(f"{server}/v2/tool/manifests/1.0")[0])["layers"]
    manifest = json.loads(fetch(f"{server}/v2/more/manifests/1")[0])
    assert manifest["layers"][:-1] == below
    assert manifest["layers"][-1]["digest"] == f"sha256:{hashlib.sha256(own).hexdigest()}"
    config = json.loads(fetch(f"{server}/v2/more/blobs/{manifest['config']['digest']}")[0])
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    with pytest.raises(ClusterError, match="no image none:1 to build on"):
        images.add("more", ["2"], [own], {}, base=("none", "1"), store=store)


def test_a_tree_keeps_its_links_and_loses_what_is_not_wanted(tmp_path: Path) -> None:
    for name in ("usr/bin/tool", "usr/share/doc/tool/readme"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "bin").symlink_to("usr/bin")
    with tarfile.open(fileobj=io.BytesIO(images.archive_tree(tmp_path, ["usr/share/doc"]))) as layer:
        assert layer.getmember("./bin").linkname == "usr/bin"
        assert "./usr/bin/tool" in layer.getnames()
        assert not [name for name in layer.getnames() if "readme" in name]
