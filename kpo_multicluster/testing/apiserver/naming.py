"""What names, labels and annotations may look like, with the server's own explanations."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from kpo_multicluster.testing.apiserver.status import FieldError, invalid_value, required

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"

_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_LABEL_VALUE}')"
)
_QUALIFIED_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    f"'key-name', regex used for validation is '{_CONFIG_KEY}')"
)
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_GENERATED_LIMIT = 63
_ANNOTATIONS_LIMIT = 256 * 1024


def _problems(value: str, pattern: str, rule: str, limit: int) -> list[str]:
    problems = [] if len(value) <= limit else [f"must be no more than {limit} characters"]
    if not re.fullmatch(pattern, value):
        problems.append(rule)
    return problems


def dns_label_problems(value: str) -> list[str]:
    """Why this is no DNS label (RFC 1123), if it is none."""
    return _problems(value, _LABEL, _LABEL_RULE, 63)


def dns_subdomain_problems(value: str) -> list[str]:
    """Why this is no DNS subdomain (RFC 1123), if it is none."""
    return _problems(value, _SUBDOMAIN, _SUBDOMAIN_RULE, 253)


def label_value_problems(value: str) -> list[str]:
    """Why this is no label value, if it is none."""
    return _problems(value, _LABEL_VALUE, _LABEL_VALUE_RULE, 63)


def config_key_problems(value: str) -> list[str]:
    """Why this is no key of a secret or configmap, if it is none."""
    return _problems(value, _CONFIG_KEY, _CONFIG_KEY_RULE, 253)


def label_key_problems(value: str) -> list[str]:
    """Why this is no qualified name (a label key, annotation key or resource name), if it is none."""
    prefix, slash, name = value.rpartition("/")
    problems: list[str] = []
    if slash and not prefix:
        problems.append("prefix part must be non-empty")
    elif prefix:
        problems += [f"prefix part {problem}" for problem in dns_subdomain_problems(prefix)]
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > 63:
        problems.append("name part must be no more than 63 characters")
    if not re.fullmatch(_QUALIFIED, name):
        problems.append(f"name part {_QUALIFIED_RULE}")
    return problems


def generated_name(prefix: str) -> str:
    """A name made from `generateName`: cut so that it fits, then five random letters."""
    suffix = "".join(random.choices(_SUFFIX_ALPHABET, k=_SUFFIX_LENGTH))
    return prefix[: _GENERATED_LIMIT - _SUFFIX_LENGTH] + suffix


def label_errors(labels: Mapping[str, str], field: str) -> list[FieldError]:
    """What is wrong with a mapping of labels (also a nodeSelector)."""
    errors: list[FieldError] = []
    for key, value in labels.items():
        errors += [invalid_value(field, key, problem) for problem in label_key_problems(key)]
        errors += [invalid_value(field, value, problem) for problem in label_value_problems(value)]
    return errors


def metadata_errors(metadata: Mapping[str, Any], *, dns_label_name: bool = False) -> list[FieldError]:
    """What is wrong with an object's metadata."""
    errors: list[FieldError] = []
    name = metadata.get("name", "")
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    else:
        problems = dns_label_problems(name) if dns_label_name else dns_subdomain_problems(name)
        errors += [invalid_value("metadata.name", name, problem) for problem in problems]
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        errors += [invalid_value("metadata.annotations", key, problem) for problem in label_key_problems(key.lower())]
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        message = f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes"
        errors.append(FieldError("metadata.annotations", "FieldValueTooLong", message))
    return errors + label_errors(metadata.get("labels") or {}, "metadata.labels")
