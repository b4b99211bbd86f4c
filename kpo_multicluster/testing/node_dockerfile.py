"""Reads the part of a Dockerfile that says what an image contains and runs, without building anything."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kpo_multicluster.errors import ConfigurationError

_NAMES: Final = ("Dockerfile.local", "Dockerfile")
_VARIABLE: Final = re.compile(r"\\\$|\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))")
# They change neither what is in the image nor what it runs.
_WITHOUT_EFFECT: Final = ("EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "STOPSIGNAL", "VOLUME")


@dataclass
class Recipe:
    """What a Dockerfile's last stage says.

    Attributes:
        entrypoint: `ENTRYPOINT`.
        command: `CMD`.
        env: `ENV`.
        working_dir: `WORKDIR`.
        user: `USER`.
        copies: `COPY` and `ADD`, as (host path, absolute path in the container).
    """

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    working_dir: str = ""
    user: str = ""
    copies: tuple[tuple[str, str], ...] = ()


def read_dockerfile(directory: Path) -> Recipe:
    """Reads a directory's `Dockerfile.local`, or else its `Dockerfile`.

    Raises:
        ConfigurationError: there is none, or it asks for what only an image build can do; names the line.
    """
    for name in _NAMES:
        if (directory / name).is_file():
            return _Reader(directory, directory / name).read()
    raise ConfigurationError(
        f"The directory {directory} declares no image: it has neither a Dockerfile.local nor a Dockerfile. Write one "
        'with what is to run, such as: ENTRYPOINT ["python3", "/app/main.py"]'
    )


class _Reader:
    def __init__(self, directory: Path, path: Path) -> None:
        self._directory = directory.resolve()
        self._path = path
        self._line = 0
        self._arguments: dict[str, str] = {}
        self._shell: tuple[str, ...] = ("/bin/sh", "-c")
        self._refused = ""
        self._recipe = Recipe()
        self._instructions: dict[str, Callable[[str], None]] = {
            "FROM": self._from,
            "ARG": self._arg,
            "ENV": self._env,
            "WORKDIR": self._workdir,
            "USER": self._user,
            "COPY": self._copy,
            "ADD": self._copy,
            "ENTRYPOINT": self._entrypoint,
            "CMD": self._cmd,
            "SHELL": self._set_shell,
        }

    def read(self) -> Recipe:
        for line, name, rest in _instructions(self._path.read_text(encoding="utf-8")):
            self._line = line
            if name in self._instructions:
                self._instructions[name](rest)
            elif name not in _WITHOUT_EFFECT:
                self._refuse(name)
        if self._refused:
            raise ConfigurationError(self._refused)
        return self._recipe

    def _refuse(self, what: str) -> None:
        # Told at the end, because only the last stage counts.
        self._refused = self._refused or (
            f"{self._path}, line {self._line}: {what} needs an image build, and the embedded cluster builds no images. "
            f"Put a file Dockerfile.local into {self._directory} that says what to run on this machine instead "
            "(COPY, ENV, WORKDIR, USER, ENTRYPOINT, CMD)."
        )

    def _from(self, _: str) -> None:
        self._recipe = Recipe()
        self._refused = ""

    def _arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self._arguments[name.strip()] = self._expanded(value.strip().strip("\"'"))

    def _env(self, rest: str) -> None:
        words = shlex.split(rest)
        if words and "=" not in words[0]:
            name, _, value = rest.partition(" ")
            words = [f"{name}={value.strip()}"]
        for word in words:
            name, _, value = word.partition("=")
            self._recipe.env[name] = self._expanded(value)

    def _workdir(self, rest: str) -> None:
        self._recipe.working_dir = posixpath.normpath(
            posixpath.join(self._recipe.working_dir or "/", self._expanded(rest.strip("\"'")))
        )

    def _user(self, rest: str) -> None:
        self._recipe.user = self._expanded(rest)

    def _entrypoint(self, rest: str) -> None:
        self._recipe.entrypoint = self._argv(rest)

    def _cmd(self, rest: str) -> None:
        self._recipe.command = self._argv(rest)

    def _set_shell(self, rest: str) -> None:
        self._shell = self._argv(rest)

    def _copy(self, rest: str) -> None:
        words = _json_list(rest) or shlex.split(rest)
        flags = [word for word in words if word.startswith("--")]
        paths = [self._expanded(word) for word in words if not word.startswith("--")]
        if any(flag.startswith("--from") for flag in flags) or any("://" in path for path in paths):
            self._refuse(f"COPY {rest}")
            return
        if len(paths) < 2:
            raise ConfigurationError(f"{self._path}, line {self._line}: COPY needs a source and a destination.")
        *sources, destination = paths
        target = posixpath.join(self._recipe.working_dir or "/", destination)
        into_directory = destination.endswith(("/", "/.")) or destination == "." or len(sources) > 1
        for source in sources:
            for found in self._found(source):
                copied = found.is_dir() or not into_directory
                place = target if copied else posixpath.join(target, found.name)
                self._recipe.copies += ((str(found), posixpath.normpath(place)),)

    def _found(self, source: str) -> list[Path]:
        relative = posixpath.normpath(source).lstrip("/")
        found = [self._directory] if relative in (".", "") else sorted(self._directory.glob(relative))
        if not found:
            raise ConfigurationError(
                f"{self._path}, line {self._line}: COPY {source}: there is no such file in {self._directory}."
            )
        return found

    def _argv(self, rest: str) -> tuple[str, ...]:
        words = _json_list(rest)
        if words is not None:
            return tuple(words)
        return (*self._shell, rest) if rest else ()

    def _expanded(self, text: str) -> str:
        known = {**self._arguments, **self._recipe.env}

        def value(match: re.Match[str]) -> str:
            name = match.group(1) or match.group(3)
            return "$" if name is None else known.get(name, match.group(2) or "")

        return _VARIABLE.sub(value, text)


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, name and arguments of each instruction, with continued lines joined."""
    pending, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and not pending):
            continue
        first = first or number
        pending += line.rstrip().removesuffix("\\") + " "
        if not line.rstrip().endswith("\\"):
            name, _, rest = pending.strip().partition(" ")
            yield first, name.upper(), rest.strip()
            pending, first = "", 0
    if pending.strip():
        name, _, rest = pending.strip().partition(" ")
        yield first, name.upper(), rest.strip()


def _json_list(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    return [str(word) for word in words] if isinstance(words, list) else None
