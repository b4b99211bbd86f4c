"""The volumes of a pod: directories of its own, and files made from secrets, config maps and the pod itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from kpo_multicluster.testing.node_context import ConfigError, PodContext
from kpo_multicluster.testing.node_env import (
    config_map_data,
    expand,
    field_value,
    resource_value,
    secret_data,
)
from kpo_multicluster.testing.runtime.spec import Mount, VolumeContent

_DEFAULT_MODE: Final = 0o644
_TOKEN_SECONDS: Final = 3600
_KINDS: Final = ("emptyDir", "secret", "configMap", "downwardAPI", "projected")

Files = dict[str, tuple[bytes, int]]


class VolumeError(Exception):
    """A volume cannot be set up yet (`FailedMount`); the text is the kubelet's."""


def unsupported(spec: Mapping[str, Any]) -> str:
    """Why the pod's volumes cannot be had on this node; empty when they can."""
    for volume in _mounted(spec):
        kinds = [key for key in volume if key != "name" and volume[key] is not None]
        for kind in kinds:
            if kind not in _KINDS:
                return (
                    f'volume "{volume["name"]}" is of kind {kind}, which the embedded cluster refuses: its containers '
                    f"share this machine's files with nobody. It serves {', '.join(_KINDS)}"
                )
    return ""


def prepare(context: PodContext, directory: Path) -> tuple[dict[str, Path | VolumeContent], list[str]]:
    """Sets up the volumes that a pod's containers mount.

    Args:
        context: the pod.
        directory: where its own directories go.

    Returns:
        The volumes by name, and what is missing, as a kubelet words it.
    """
    volumes: dict[str, Path | VolumeContent] = {}
    problems = []
    for volume in _mounted(context.spec):
        name = volume["name"]
        try:
            files = _files(context, volume)
        except (VolumeError, ConfigError) as error:
            problems.append(f'MountVolume.SetUp failed for volume "{name}" : {error}')
            continue
        if files is None:
            path = directory / name
            path.mkdir(exist_ok=True)
            os.chmod(path, 0o777)
            _give_to_group(path, context)
            volumes[name] = path
        else:
            version = datetime.now(timezone.utc).strftime("%Y_%m_%d_%H_%M_%S.%f")
            volumes[name] = VolumeContent(files, version)
    return volumes, problems


def _give_to_group(path: Path, context: PodContext) -> None:
    """Hands a volume to the pod's `fsGroup`, and with it what is made in it."""
    group = (context.spec.get("securityContext") or {}).get("fsGroup")
    # Without root there is no other group than this process's own, which every container has.
    if group is not None and os.geteuid() == 0:
        os.chown(path, -1, int(group))
        os.chmod(path, 0o2777)


def mounts_of(
    container: Mapping[str, Any], volumes: Mapping[str, Path | VolumeContent], variables: Mapping[str, str]
) -> list[Mount]:
    """Where a container wants its volumes.

    Raises:
        ConfigError: it names a volume that the pod has not, or a path outside it.
    """
    mounts = []
    for mount in container.get("volumeMounts") or []:
        name = mount["name"]
        if name not in volumes:
            raise ConfigError(f'cannot find volume "{name}" to mount into container "{container["name"]}"')
        sub_path = mount.get("subPath") or expand(mount.get("subPathExpr") or "", variables)
        if ".." in sub_path.split("/") or sub_path.startswith("/"):
            raise ConfigError(f'subPath "{sub_path}" must be a relative path without ".."')
        volume = volumes[name]
        content = volume if isinstance(volume, VolumeContent) else None
        mounts.append(
            Mount(
                target=mount["mountPath"],
                source="" if content else str(volume),
                content=content,
                sub_path=sub_path,
                read_only=bool(mount.get("readOnly")) or content is not None,
            )
        )
    return mounts


def _mounted(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    # A kubelet looks at no others.
    everyone = (*(spec.get("initContainers") or ()), *spec["containers"])
    names = {mount["name"] for container in everyone for mount in container.get("volumeMounts") or ()}
    return [volume for volume in spec.get("volumes") or () if volume["name"] in names]


def _files(context: PodContext, volume: Mapping[str, Any]) -> Files | None:
    """The files of a volume; None for one that begins empty."""
    for kind in ("secret", "configMap", "downwardAPI"):
        if volume.get(kind) is not None:
            return _projection(context, kind, volume[kind], _mode(volume[kind].get("defaultMode"), _DEFAULT_MODE))
    if volume.get("projected") is None:
        return None
    projected = volume["projected"]
    mode = _mode(projected.get("defaultMode"), _DEFAULT_MODE)
    files: Files = {}
    for source in projected.get("sources") or []:
        for kind, projection in source.items():
            files.update(_projection(context, kind, projection, mode))
    return files


def _projection(context: PodContext, kind: str, projection: Mapping[str, Any], mode: int) -> Files:
    if kind == "downwardAPI":
        return dict(_downward_files(context, projection, mode))
    if kind == "serviceAccountToken":
        return {projection["path"]: (_token(context, projection).encode(), mode)}
    if kind not in ("secret", "configMap"):
        raise VolumeError(f"a projected volume with a source of kind {kind} is not served by the embedded cluster")
    name = str(projection.get("secretName") or projection.get("name") or "")
    plural, label = ("secrets", "secret") if kind == "secret" else ("configmaps", "configmap")
    found = context.stored(plural, name)
    if found is None:
        if projection.get("optional"):
            return {}
        raise VolumeError(f'{label} "{name}" not found')
    data = secret_data(found) if kind == "secret" else config_map_data(found)
    return _selected(data, projection, mode, "references non-existent secret key" if kind == "secret" else "")


def _selected(data: Mapping[str, bytes], projection: Mapping[str, Any], mode: int, missing: str) -> Files:
    items = projection.get("items")
    if not items:
        return {name: (value, mode) for name, value in data.items()}
    files: Files = {}
    for item in items:
        if item["key"] in data:
            files[item["path"]] = (data[item["key"]], _mode(item.get("mode"), mode))
        elif not projection.get("optional"):
            raise VolumeError(f"{missing or 'configmap references non-existent config key'}: {item['key']}")
    return files


def _downward_files(
    context: PodContext, projection: Mapping[str, Any], mode: int
) -> Iterator[tuple[str, tuple[bytes, int]]]:
    for item in projection.get("items") or []:
        if item.get("fieldRef"):
            value = field_value(context, item["fieldRef"]["fieldPath"])
        else:
            value = resource_value(context, {}, item["resourceFieldRef"])
        yield item["path"], (value.encode(), _mode(item.get("mode"), mode))


def _token(context: PodContext, projection: Mapping[str, Any]) -> str:
    make = context.node.settings.service_account_token
    if make is None:
        raise VolumeError("failed to fetch token: this node has no source of service account tokens")
    account = str(context.spec.get("serviceAccountName") or "default")
    lifetime = int(projection.get("expirationSeconds") or _TOKEN_SECONDS)
    return make(context.namespace, account, str(projection.get("audience") or ""), lifetime)


def _mode(mode: int | None, default: int) -> int:
    return default if mode is None else int(mode)
