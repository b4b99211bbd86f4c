"""Kubernetes secrets as environment variables or volumes of the base container."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.pods.convert import to_json

_SHAPE: Final = ("deploy_type", "deploy_target", "secret")
# Names of secret volumes are derived from what they hold, so that building a pod twice gives the same pod.
_NAMES: Final = uuid.UUID("8f2f6a0e-2f0c-5b52-9f5e-6b0f5d1c3a77")


def attach_secrets(pod: dict[str, Any], container: dict[str, Any], secrets: Sequence[Any]) -> None:
    """Adds secrets to a pod, in place.

    Args:
        pod: gets the volumes.
        container: of that pod; gets the mounts and the environment variables.
        secrets: objects of the upstream operator's `Secret` or of the same shape.

    Raises:
        ConfigurationError: an object is of another shape, or asks for what there is not.
    """
    check_secrets(secrets)
    for index, secret in enumerate(secrets):
        if secret.deploy_type == "volume":
            _mount(pod, container, secret, index)
        elif getattr(secret, "key", None) is not None:
            reference = {"name": secret.secret, "key": secret.key}
            variable = {"name": secret.deploy_target, "valueFrom": {"secretKeyRef": reference}}
            container["env"] = [*(container.get("env") or []), variable]
        else:
            source = {"secretRef": {"name": secret.secret}}
            container["envFrom"] = [*(container.get("envFrom") or []), source]


def check_secrets(secrets: Any) -> None:
    """Refuses what is no list of secrets; None is none at all.

    Raises:
        ConfigurationError: the message names the item.
    """
    if secrets is not None and not isinstance(secrets, (list, tuple)):
        raise ConfigurationError(f"secrets must be a list of Secret, got {type(secrets).__name__}.")
    for index, secret in enumerate(secrets or ()):
        if any(not hasattr(secret, attribute) for attribute in _SHAPE):
            raise ConfigurationError(
                f"secrets[{index}] must be a Secret (with {', '.join(_SHAPE)}), got {type(secret).__name__}."
            )
        if secret.deploy_type not in ("env", "volume"):
            raise ConfigurationError(
                f"secrets[{index}].deploy_type must be 'env' or 'volume', got {secret.deploy_type!r}."
            )


def _mount(pod: dict[str, Any], container: dict[str, Any], secret: Any, index: int) -> None:
    source: dict[str, Any] = {"secretName": secret.secret}
    if items := getattr(secret, "items", None):
        source["items"] = to_json(items, "[V1KeyToPath]", f"secrets[{index}].items")
    name = f"secretvol{uuid.uuid5(_NAMES, f'{index}:{secret.secret}:{secret.deploy_target}')}"
    mount = {"name": name, "mountPath": secret.deploy_target, "readOnly": True}
    pod["spec"]["volumes"] = [*(pod["spec"].get("volumes") or []), {"name": name, "secret": source}]
    container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]
