"""Pod templates in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.pods.convert import to_json


def load_template(path: str) -> dict[str, Any]:
    """The pod in a YAML or JSON file.

    Raises:
        ConfigurationError: the file is missing, cannot be read, is not YAML, or holds no pod.
    """
    import yaml

    where = f"pod_template_file {path}"
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"{where} cannot be read: {reason}. The path is looked up where the task runs, in {Path.cwd()}; "
            "see that the file is in the worker's image, or give pod_template_dict instead."
        ) from None
    try:
        # The loader written in C where it is there: the same content, ten times faster.
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(
            f"{where} is not valid YAML{place}: {getattr(error, 'problem', None) or type(error).__name__}."
        ) from None
    if content is None:
        raise ConfigurationError(f"{where} is empty.")
    pod: dict[str, Any] = to_json(content, "V1Pod", where)
    check_kind(pod, where)
    return pod


def check_kind(pod: Mapping[str, Any], where: str) -> None:
    """Refuses a template that says itself that it is no pod.

    Raises:
        ConfigurationError: it is of another kind.
    """
    kind = pod.get("kind") or "Pod"
    if kind.lower() != "pod":
        raise ConfigurationError(
            f"{where} holds a {kind}, not a Pod; give the pod alone, for a {kind} most likely what is under 'template'."
        )
