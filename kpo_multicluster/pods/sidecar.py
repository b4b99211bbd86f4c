"""The sidecar that keeps a run's result readable after the base container has ended.

Names, paths and command are the upstream operator's: images and policies were written for them.
"""

from __future__ import annotations

from typing import Any, Final

from kpo_multicluster.pods.arguments import PodArguments
from kpo_multicluster.pods.convert import resources_to_json, to_json
from kpo_multicluster.pods.xcom import MOUNT_PATH, SIDECAR_COMMAND, SIDECAR_NAME

# With a fixed tag a node that has the image pulls it no more.
SIDECAR_IMAGE: Final = "alpine:3.24.2"
VOLUME_NAME: Final = "xcom"

_RESOURCES: Final = {"requests": {"cpu": "1m", "memory": "10Mi"}}


def add_sidecar(pod: dict[str, Any], base: dict[str, Any], arguments: PodArguments) -> None:
    """Adds sidecar, volume and mounts to a pod, in place.

    Args:
        pod: what to add to.
        base: the container of it that writes the result.
        arguments: its image, resources and security context.
    """
    spec = pod["spec"]
    mount = {"name": VOLUME_NAME, "mountPath": MOUNT_PATH}
    spec["volumes"] = [{"name": VOLUME_NAME, "emptyDir": {}}, *(spec.get("volumes") or [])]
    base["volumeMounts"] = [mount, *(base.get("volumeMounts") or [])]
    spec["containers"] = [*spec["containers"], _sidecar(arguments, dict(mount))]


def _sidecar(arguments: PodArguments, mount: dict[str, str]) -> dict[str, Any]:
    resources = arguments.xcom_sidecar_container_resources
    sidecar: dict[str, Any] = {
        "name": SIDECAR_NAME,
        "image": arguments.xcom_sidecar_container_image or SIDECAR_IMAGE,
        "command": ["sh", "-c", SIDECAR_COMMAND],
        "resources": resources_to_json(resources or _RESOURCES, "xcom_sidecar_container_resources"),
        "volumeMounts": [mount],
    }
    security = arguments.xcom_sidecar_container_security_context
    if security is not None:
        sidecar["securityContext"] = to_json(security, "V1SecurityContext", "xcom_sidecar_container_security_context")
    return sidecar
