"""Reads kubeconfigs and joins several into one, by the rules of kubectl.

Sources: `k8s.io/client-go/tools/clientcmd`, and "Organizing Cluster Access Using kubeconfig Files" in the Kubernetes
documentation. A kubeconfig holds keys, so no message made here repeats what stands in one, save the names of its
contexts, clusters and users, and no exception is chained to that of a parser, which quotes the text.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kpo_multicluster.auth.tls import pem_from_base64
from kpo_multicluster.errors import KubeconfigError

_LISTS = {"contexts": "context", "clusters": "cluster", "users": "user"}


@dataclass(frozen=True)
class Section:
    """One mapping of a kubeconfig.

    Attributes:
        values: the mapping.
        where: what it is, for messages, such as "user 'gpu' of /etc/kubeconfig".
        directory: that relative paths in it start from.
        name: of a context, cluster or user; empty for other mappings.
    """

    values: Mapping[str, Any] = field(repr=False)
    where: str
    directory: Path
    name: str = ""

    def text(self, key: str) -> str | None:
        """A text field; None when it is absent or empty."""
        value = self.values.get(key)
        if value is None or isinstance(value, str):
            return value or None
        raise self._wrong(key, "text; put the value in quotes")

    def flag(self, key: str) -> bool:
        """A boolean field; False when it is absent."""
        value = self.values.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self._wrong(key, "true or false")

    def texts(self, key: str) -> list[str]:
        """A list of texts; empty when it is absent."""
        value = self.values.get(key) or []
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        raise self._wrong(key, "a list of texts; put the values in quotes")

    def section(self, key: str) -> Section | None:
        """A mapping; None when it is absent or empty."""
        value = self.values.get(key)
        if value is None or isinstance(value, Mapping):
            return Section(value, f"{key} of {self.where}", self.directory) if value else None
        raise self._wrong(key, "a mapping")

    def sections(self, key: str) -> list[Section]:
        """A list of mappings; empty when it is absent."""
        value = self.values.get(key) or []
        if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            return [Section(item, f"an item of {key} of {self.where}", self.directory) for item in value]
        raise self._wrong(key, "a list of mappings")

    def path(self, key: str) -> Path | None:
        """A path, those that are relative taken from the kubeconfig's own directory; None when it is absent."""
        value = self.text(key)
        return None if value is None else self.directory / value

    def pem(self, key: str) -> str | None:
        """PEM from the base64 in `<key>-data`, else from the file named by `<key>`; None when both are absent."""
        data, path = self.text(f"{key}-data"), self.path(key)
        if data is not None:
            pem = pem_from_base64(data)
            if pem is None:
                raise self._wrong(f"{key}-data", "base64 of PEM text")
            return pem
        if path is None:
            return None
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise KubeconfigError(
                f"The {key} of {self.where}, {path}, cannot be read on host {socket.gethostname()}: {error.strerror}. "
                f"Put the file there, or its content into {key}-data."
            ) from error

    def _wrong(self, key: str, expected: str) -> KubeconfigError:
        return KubeconfigError(f"The field {key} of {self.where} must be {expected}.")


@dataclass(frozen=True)
class Kubeconfig:
    """One kubeconfig, or several joined.

    Attributes:
        origin: where it was read from, for messages.
        current_context: of the first file that names one.
        contexts: by name; of a name that occurs in several files the first definition.
        clusters: likewise.
        users: likewise.
    """

    origin: str
    current_context: str | None
    contexts: Mapping[str, Section]
    clusters: Mapping[str, Section]
    users: Mapping[str, Section]


def read_paths(path: str | None, *, source: str) -> Kubeconfig:
    """The kubeconfig at `path`.

    Args:
        path: of the file, or several joined by `:`, or `env:NAME` for what the variable holds; None for
            `$KUBECONFIG`, else `~/.kube/config`. Of several, those that do not exist are passed over.
        source: what named the path, for messages.

    Raises:
        KubeconfigError: no file exists, or one cannot be read.
    """
    paths, named_by = _paths(path, source)
    found = [candidate for candidate in paths if _present(candidate)]
    if not found:
        raise KubeconfigError(
            f"No kubeconfig on host {socket.gethostname()} at {', '.join(map(str, paths))} ({named_by}). "
            "Put the file there, or name another; a task that defers needs it on the triggerer too."
        )
    return _joined([_read_file(candidate) for candidate in found], ":".join(map(str, found)))


def read_document(document: str | Mapping[str, Any], *, source: str) -> Kubeconfig:
    """A kubeconfig given as a mapping, or as JSON or YAML text. Relative paths in it start from the working directory.

    Args:
        document: the kubeconfig.
        source: what gave it, for messages.

    Raises:
        KubeconfigError: it is not a kubeconfig.
    """
    origin = f"the inline kubeconfig from {source}"
    content = _parse(document, origin) if isinstance(document, str) else document
    return _joined([_checked(content, origin, Path.cwd())], origin)


def _paths(path: str | None, source: str) -> tuple[list[Path], str]:
    if path is None:
        joined, named_by = os.environ.get("KUBECONFIG") or "", "$KUBECONFIG"
        if not joined:
            joined, named_by = "~/.kube/config", f"the default, as {source} names none and $KUBECONFIG is not set"
    elif path.startswith("env:"):
        name = path.removeprefix("env:")
        joined, named_by = os.environ.get(name) or "", f"{path} of {source}"
        if not joined:
            raise KubeconfigError(
                f"The environment variable {name}, which {source} names for the path of a kubeconfig, is not set on "
                f"host {socket.gethostname()}: set it there."
            )
    else:
        joined, named_by = path, source
    parts = dict.fromkeys(part for part in joined.split(os.pathsep) if part)
    return [Path(part).expanduser().absolute() for part in parts], named_by


def _present(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # it may be there; reading it says what is wrong
    return True


def _read_file(path: Path) -> Kubeconfig:
    fault = ""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        fault = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        fault = "it is not UTF-8 text"
    if fault:
        raise KubeconfigError(f"The kubeconfig {path} cannot be read on host {socket.gethostname()}: {fault}.")
    return _checked(_parse(text, str(path)), str(path), path.parent)


def _parse(text: str, origin: str) -> Any:
    if text.lstrip().startswith("{"):
        # YAML is a superset of JSON but for details such as tabs.
        try:
            return json.loads(text)
        except ValueError:
            pass
    place = ""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    except (ValueError, RecursionError):
        pass  # such as a timestamp that is none
    raise KubeconfigError(f"{_capital(origin)} is not valid YAML{place}: correct it there.")


def _checked(content: Any, origin: str, directory: Path) -> Kubeconfig:
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise KubeconfigError(
            f"{_capital(origin)} is not a kubeconfig: it must be a mapping with contexts, clusters and users."
        )
    whole = Section(content, origin, directory)
    named = {key: _named(whole, key) for key in _LISTS}
    return Kubeconfig(origin, whole.text("current-context"), **named)


def _named(whole: Section, key: str) -> dict[str, Section]:
    singular, found = _LISTS[key], dict[str, Section]()
    for item in whole.sections(key):
        name = item.text("name")
        if name is None:
            raise KubeconfigError(f"An item of {key} of {whole.where} has no name: give it one.")
        if name in found:
            raise KubeconfigError(f"{_capital(whole.where)} defines the {singular} {name!r} twice: remove one.")
        body = item.section(singular)
        where = f"{singular} {name!r} of {whole.where}"
        found[name] = Section(body.values if body else {}, where, whole.directory, name)
    return found


def _joined(configs: list[Kubeconfig], origin: str) -> Kubeconfig:
    current = next((config.current_context for config in configs if config.current_context), None)
    return Kubeconfig(
        origin,
        current,
        contexts=_first_wins(config.contexts for config in configs),
        clusters=_first_wins(config.clusters for config in configs),
        users=_first_wins(config.users for config in configs),
    )


def _first_wins(mappings: Iterable[Mapping[str, Section]]) -> dict[str, Section]:
    joined: dict[str, Section] = {}
    for mapping in mappings:
        joined = {**mapping, **joined}
    return joined


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith("the ") else text
