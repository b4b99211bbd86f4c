"""Images that are not pulled: declared by a command or a directory, or run with this machine's files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing.node_images import ImageSource, canonical_reference, find_image, name_error

from .node_cases import running_node


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("apache/airflow", "docker.io/apache/airflow:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("HOST/app", "HOST/app:latest"),
        ("registry:5000/app:v1", "registry:5000/app:v1"),
        ("quay.io/a/b@sha256:" + "0" * 64, "quay.io/a/b@sha256:" + "0" * 64),
        ("docker.io/library/alpine:latest", "docker.io/library/alpine:latest"),
    ],
)
def test_short_names_are_completed(reference: str, full: str) -> None:
    assert canonical_reference(reference) == full
    assert name_error(reference) == ""


def test_images_are_found_by_any_spelling() -> None:
    tagged, anything = ImageSource(command=("tagged",)), ImageSource(command=("any",))
    images = {"demo/hello:1.0": tagged, "demo/hello": anything, "docker.io/library/alpine": anything}
    assert find_image(images, "docker.io/demo/hello:1.0") is tagged
    assert find_image(images, "demo/hello:2.0") is anything
    assert find_image(images, "demo/hello") is anything
    assert find_image(images, "alpine:3.20") is anything
    assert find_image(images, "other") is None


@pytest.mark.parametrize("name", ["Alpine", "alpine:", "al pine", "", "http://x/y", "-a"])
def test_names_that_are_none(name: str) -> None:
    assert name_error(name).startswith(
        f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}"'
    )


async def test_declared_images_run_their_entrypoint() -> None:
    images = {
        "greeter": ImageSource(
            entrypoint=("sh", "-c", 'echo "$GREETING $0 $(pwd) $(id -u)"'),
            command=("cmd",),
            env={"GREETING": "hello", "OTHER": "x"},
            working_dir="/srv",
            user="1000",
        ),
        "broken": ImageSource(pull_error="manifest for broken not found"),
    }
    async with running_node(images=images) as node:
        for fields, said in (
            ({}, "hello cmd /srv 1000\n"),
            ({"args": ["arg"]}, "hello arg /srv 1000\n"),
            ({"env": [{"name": "GREETING", "value": "moin"}], "workingDir": "/tmp"}, "moin cmd /tmp 1000\n"),
        ):
            pod = await node.run(base={"image": "greeter:7", **fields})
            assert await pod.result() == said
        assert "ImageNotPulled" not in node.store.reasons()
        pod = await node.run(base={"image": "broken"})
        waiting = await pod.waiting("ErrImagePull")
        assert waiting["message"] == "manifest for broken not found"
        waiting = await pod.waiting("ImagePullBackOff")
        assert waiting["message"] == 'Back-off pulling image "broken": ErrImagePull: manifest for broken not found'
        assert ("Warning", "Failed", "Error: ErrImagePull", "spec.containers{base}") in node.store.events
        await pod.stop(0)


async def test_undeclared_images_are_noticed_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with running_node() as node:
        for _ in range(2):
            pod = await node.run("python", "-c", "import sys; print(sys.version_info[:2])", base={"image": "python:3"})
            assert await pod.result() == f"{sys.version_info[:2]}\n"
        assert caplog.text.count('Image "python:3" is not pulled') == 1
        notices = [(kind, reason) for kind, reason, _, _ in node.store.events if reason == "ImageNotPulled"]
        assert notices == [("Normal", "ImageNotPulled")] * 2


async def test_an_image_name_that_is_none_is_told() -> None:
    async with running_node() as node:
        pod = await node.run("true", base={"image": "demo/UPPER:1"})
        waiting = await pod.waiting("InvalidImageName")
        assert waiting["message"].endswith("invalid reference format: repository name (demo/UPPER) must be lowercase")
        assert ("Warning", "Failed", "Error: InvalidImageName", "spec.containers{base}") in node.store.events
        await pod.stop(0)


DOCKERFILE = """\
# syntax=docker/dockerfile:1
FROM builder AS build
RUN make everything
FROM python:3.12-slim
ARG VERSION=7
ENV A=1 B="two words" \\
    C=$A/${VERSION}
ENV LEGACY all of this
WORKDIR /opt
WORKDIR app
LABEL maintainer=none
COPY main.py lib/ ./
COPY --chown=1:1 *.txt texts/
EXPOSE 80
USER 1000:1000
ENTRYPOINT ["python3", "main.py"]
CMD echo $HOME
"""


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return directory


def test_a_directory_declares_an_image(tmp_path: Path) -> None:
    write(tmp_path, Dockerfile=DOCKERFILE, main_py="", a_txt="", b_txt="", lib__mod_py="")
    source = ImageSource.from_directory(tmp_path)
    assert source == ImageSource(
        entrypoint=("python3", "main.py"),
        command=("/bin/sh", "-c", "echo $HOME"),
        env={"A": "1", "B": "two words", "C": "1/7", "LEGACY": "all of this"},
        working_dir="/opt/app",
        user="1000:1000",
        copies=(
            (f"{tmp_path}/main.py", "/opt/app/main.py"),
            (f"{tmp_path}/lib", "/opt/app"),
            (f"{tmp_path}/a.txt", "/opt/app/texts/a.txt"),
            (f"{tmp_path}/b.txt", "/opt/app/texts/b.txt"),
        ),
    )


@pytest.mark.parametrize(
    ("dockerfile", "copies"),
    [
        ("COPY main.py /srv/", [("main.py", "/srv/main.py")]),
        ("COPY main.py /srv/app.py", [("main.py", "/srv/app.py")]),
        ("WORKDIR /w\nCOPY main.py .", [("main.py", "/w/main.py")]),
        ("COPY . /srv", [("", "/srv")]),
        ('COPY ["main.py", "/srv/"]', [("main.py", "/srv/main.py")]),
        ("ADD main.py /srv/", [("main.py", "/srv/main.py")]),
        ("ARG D=/d\nCOPY main.py $D/x", [("main.py", "/d/x")]),
    ],
)
def test_copies_go_where_a_build_puts_them(tmp_path: Path, dockerfile: str, copies: list[tuple[str, str]]) -> None:
    write(tmp_path, Dockerfile=dockerfile, main_py="")
    expected = tuple((str(tmp_path / source), target) for source, target in copies)
    assert ImageSource.from_directory(tmp_path).copies == expected


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM x\nRUN ghc Main.hs\nCMD ./Main", r"Dockerfile, line 2: RUN needs an image build.*Dockerfile\.local"),
        ("FROM x AS b\nFROM y\nCOPY --from=b /a /a", "line 3: COPY --from=b /a /a needs an image build"),
        ("ADD https://example.org/x /x", "line 1: COPY https://example.org/x /x needs an image build"),
        ("FROM x\n\n# c\nCOPY nothing /x", "line 4: COPY nothing: there is no such file"),
        ("COPY x", "line 1: COPY needs a source and a destination"),
        ("FROBNICATE x", "line 1: FROBNICATE needs an image build"),
    ],
)
def test_what_cannot_be_done_without_a_build_is_named(tmp_path: Path, dockerfile: str, words: str) -> None:
    write(tmp_path, Dockerfile=dockerfile)
    with pytest.raises(ConfigurationError, match=words):
        ImageSource.from_directory(tmp_path)


def test_a_local_file_comes_before_the_dockerfile(tmp_path: Path) -> None:
    write(tmp_path, Dockerfile="FROM x\nRUN make", Dockerfile_local="CMD ['a'")
    assert ImageSource.from_directory(tmp_path).command == ("/bin/sh", "-c", "['a'")


def test_a_directory_without_either_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has neither a Dockerfile\.local nor a Dockerfile"):
        ImageSource.from_directory(tmp_path)


async def test_a_declared_directory_runs(tmp_path: Path) -> None:
    dockerfile = 'WORKDIR /opt/multiply\nCOPY multiply.py ./\nENV FACTOR=23\nCMD ["python3", "multiply.py"]\n'
    script = "import json, os\njson.dump(2 * int(os.environ['FACTOR']), open('/airflow/xcom/return.json', 'w'))\n"
    write(tmp_path, Dockerfile=dockerfile, multiply_py=script)
    async with running_node(images={"multiply": ImageSource.from_directory(tmp_path)}) as node:
        mount = [{"name": "xcom", "mountPath": "/airflow/xcom"}]
        pod = await node.run_spec(
            {
                "containers": [
                    {"name": "base", "image": "multiply", "volumeMounts": mount},
                    {
                        "name": "reader",
                        "image": "alpine",
                        "command": ["sh", "-c", "until [ -s /x/return.json ]; do sleep 0.01; done; cat /x/return.json"],
                        "volumeMounts": [{"name": "xcom", "mountPath": "/x"}],
                    },
                ],
                "volumes": [{"name": "xcom", "emptyDir": {}}],
            }
        )
        assert await pod.over() == "Succeeded"
        assert await pod.log("reader") == "46"
