"""Credential files of Google's: where they are, and what they hold. No message repeats what stands in one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kpo_multicluster.errors import CredentialError


def adc_path(environ: Mapping[str, str]) -> Path | None:
    """The credential file that Application Default Credentials would use; None where none is there."""
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return Path(named)
    folder = environ.get("CLOUDSDK_CONFIG")
    well_known = (
        Path(folder) if folder else Path.home() / ".config" / "gcloud"
    ) / "application_default_credentials.json"
    return well_known if well_known.exists() else None


def file_reader(path: str | Path, *, source: str) -> Callable[[], Mapping[str, Any]]:
    """Reads a credential file.

    Args:
        path: of the file.
        source: what names it, for messages.
    """
    return lambda: parsed(_text(path, source), source=f"{path} ({source})")


def parsed(text: str, *, source: str) -> Mapping[str, Any]:
    """The content of a credential file.

    Raises:
        CredentialError: it is not a JSON object with a type.
    """
    try:
        info = json.loads(text)
    except ValueError:  # its message quotes the text
        info = None
    return checked(info, source=source)


def checked(info: object, *, source: str) -> Mapping[str, Any]:
    """The content of a credential file that was read already.

    Raises:
        CredentialError: it is not a mapping with a type.
    """
    if not isinstance(info, Mapping) or not isinstance(info.get("type"), str):
        raise CredentialError(
            f"What {source} holds is not a credential file of Google's, which is a JSON object with a type: put the "
            "whole file there."
        )
    return info


def _text(path: str | Path, source: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not text"
    raise CredentialError(
        f"The Google credential file {path} ({source}) cannot be read: {cause}. Put it there, on the triggerer too if "
        "the task defers."
    )
