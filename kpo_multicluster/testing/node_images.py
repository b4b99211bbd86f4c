"""What the embedded cluster runs for an image, since it pulls none."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kpo_multicluster.testing.node_dockerfile import read_dockerfile

_STANDARD_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The grammar of image references: distribution/reference.
_REFERENCE: Final = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)


@dataclass(frozen=True)
class ImageSource:
    """What runs on this machine when a pod names an image.

    Attributes:
        entrypoint: the image's `ENTRYPOINT`; a container's `command` replaces it.
        command: the image's `CMD`; a container's `args` replace it.
        env: the image's environment; the manifest's goes before it.
        working_dir: where commands run unless the container names another `workingDir`.
        user: the image's `USER`, a number or `number:number`; empty for root.
        copies: what the image contains besides this machine's files, as (host path, absolute path in the container).
        pull_error: when set, the image cannot be had: pods that name it wait in `ErrImagePull` with this text.
    """

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    user: str = ""
    copies: tuple[tuple[str, str], ...] = ()
    pull_error: str = ""

    @classmethod
    def from_command(cls, *argv: str) -> ImageSource:
        """An image whose entrypoint is a command of this machine."""
        return cls(entrypoint=argv)

    @classmethod
    def from_directory(cls, directory: str | Path) -> ImageSource:
        """An image declared by a directory with a `Dockerfile.local` or a `Dockerfile`.

        `COPY`, `ENV`, `WORKDIR`, `USER`, `ENTRYPOINT` and `CMD` of the last stage count. Nothing is built: a file with
        `RUN` needs a `Dockerfile.local` beside it that says what to run here instead.

        Raises:
            ConfigurationError: no such file, or it asks for what only an image build can do.
        """
        recipe = read_dockerfile(Path(directory))
        return cls(
            entrypoint=recipe.entrypoint,
            command=recipe.command,
            env=recipe.env,
            working_dir=recipe.working_dir,
            user=recipe.user,
            copies=recipe.copies,
        )


def default_search_path() -> str:
    """`PATH` of an image that sets none: the usual one, and last this interpreter's directory, which has a `python`."""
    own = os.path.dirname(sys.executable)
    return _STANDARD_PATH if own in _STANDARD_PATH.split(":") else f"{_STANDARD_PATH}:{own}"


def find_image(images: Mapping[str, ImageSource], reference: str) -> ImageSource | None:
    """The declared source of an image; one declared without a tag stands for every tag."""
    wanted = canonical_reference(reference)
    by_name = {canonical_reference(name): source for name, source in images.items()}
    if wanted in by_name:
        return by_name[wanted]
    untagged = {name: source for name, source in images.items() if not _tag(name)}
    return {_repository(name): source for name, source in untagged.items()}.get(_repository(reference))


def canonical_reference(reference: str) -> str:
    """An image's full name, as a runtime completes it: `alpine` is `docker.io/library/alpine:latest`."""
    return f"{_repository(reference)}{_tag(reference) or ':latest'}"


def name_error(reference: str) -> str:
    """Why a string is no image name, in a kubelet's words; empty when it is one."""
    if _REFERENCE.fullmatch(reference):
        return ""
    reason = "invalid reference format"
    if _REFERENCE.fullmatch(reference.lower()):
        name = _repository(reference).partition("/")[2]
        reason += f": repository name ({name}) must be lowercase"
    return f'Failed to apply default image tag "{reference}": couldn\'t parse image name "{reference}": {reason}'


def _repository(reference: str) -> str:
    name = reference[: len(reference) - len(_tag(reference))]
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    # A name with capitals cannot be a repository, so it is taken for a registry.
    if "." in first or ":" in first or first == "localhost" or first != first.lower():
        return name
    return f"docker.io/{name}"


def _tag(reference: str) -> str:
    match = re.search(r"(?::[^:/@]+)?(?:@.+)?$", reference)
    return match.group(0) if match else ""
