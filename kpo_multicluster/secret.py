"""`Secret`: a Kubernetes secret for the base container of a pod, given to the operator as `secrets=`."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from kpo_multicluster.errors import ConfigurationError

if TYPE_CHECKING:
    from kubernetes.client.models import V1EnvFromSource, V1EnvVar, V1Pod, V1Volume, V1VolumeMount


@dataclass(frozen=True)
class Secret:
    """A Kubernetes secret as environment variables or as files.

    Attributes:
        deploy_type: `env` or `volume`.
        deploy_target: name of the environment variable, made upper case; or the directory of the files. None with
            `env` and no key: each key of the secret becomes a variable of its own name.
        secret: name of the secret in the pod's namespace.
        key: the one key of the secret to take, for `env`.
        items: which keys become which files, for `volume`: `V1KeyToPath` or dictionaries; all if empty.

    Raises:
        ConfigurationError: `deploy_type` is another, or a key has no `deploy_target`.
    """

    deploy_type: Literal["env", "volume"]
    deploy_target: str | None
    secret: str
    key: str | None = None
    items: Sequence[Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.deploy_type not in ("env", "volume"):
            raise ConfigurationError(f"deploy_type of a Secret must be 'env' or 'volume', not {self.deploy_type!r}.")
        if self.deploy_target is None and (self.key is not None or self.deploy_type == "volume"):
            wanted = "the variable's name" if self.deploy_type == "env" else "the directory to mount it at"
            raise ConfigurationError(f"Secret {self.secret!r} needs a deploy_target: {wanted}.")
        if self.deploy_target is not None and self.deploy_type == "env":
            object.__setattr__(self, "deploy_target", self.deploy_target.upper())
        object.__setattr__(self, "items", list(self.items or ()))

    def to_env_secret(self) -> V1EnvVar:
        """The environment variable for one key."""
        models = _models()
        selector = models.V1SecretKeySelector(name=self.secret, key=self.key)
        source = models.V1EnvVarSource(secret_key_ref=selector)
        variable: V1EnvVar = models.V1EnvVar(name=self.deploy_target, value_from=source)
        return variable

    def to_env_from_secret(self) -> V1EnvFromSource:
        """The source of environment variables for all keys."""
        models = _models()
        reference = models.V1SecretEnvSource(name=self.secret)
        source: V1EnvFromSource = models.V1EnvFromSource(secret_ref=reference)
        return source

    def to_volume_secret(self) -> tuple[V1Volume, V1VolumeMount]:
        """The volume and its mount; the volume's name is another each time."""
        models = _models()
        name = f"secretvol{uuid.uuid4()}"
        source = models.V1SecretVolumeSource(secret_name=self.secret, items=self.items or None)
        mount = models.V1VolumeMount(name=name, mount_path=self.deploy_target, read_only=True)
        return models.V1Volume(name=name, secret=source), mount

    def attach_to_pod(self, pod: V1Pod) -> V1Pod:
        """A copy of the pod whose first container has the secret."""
        attached = copy.deepcopy(pod)
        spec: Any = attached.spec
        container = spec.containers[0]
        if self.deploy_type == "volume":
            volume, mount = self.to_volume_secret()
            spec.volumes = [*(spec.volumes or ()), volume]
            container.volume_mounts = [*(container.volume_mounts or ()), mount]
        elif self.key is not None:
            container.env = [*(container.env or ()), self.to_env_secret()]
        else:
            container.env_from = [*(container.env_from or ()), self.to_env_from_secret()]
        return attached


def _models() -> Any:
    # Slow to import, and only wanted by those who build pods themselves.
    from kubernetes.client import models

    return models
