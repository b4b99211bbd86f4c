"""Pod templates in files."""

from __future__ import annotations

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
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(
            f"{where} is not valid YAML{place}: {getattr(error, 'problem', None) or type(error).__name__}."
        ) from None
    pod: dict[str, Any] = to_json(content, "V1Pod", where)
    return pod
