"""Pods at the edge: JSON objects inside, `V1Pod` for code that was written against upstream.

`kubernetes` takes more than a second to import, so a `V1Pod` is made only when one is really asked for.
"""

from __future__ import annotations

from typing import Any

from kpo_multicluster.pods.convert import to_json


class PodObject(dict[str, Any]):
    """A pod as the API server sent it, that can be read as a `V1Pod` too: `pod.metadata.name`, `pod.to_dict()`.

    It is what was read: a change to its attributes changes nothing in the cluster.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        model = self.__dict__.get("_model")
        if model is None:
            model = self.__dict__["_model"] = v1_pod(self)
        return getattr(model, name)


def as_pod(value: Any) -> PodObject:
    """A pod given as a JSON object or as a `V1Pod`.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(value, PodObject):
        return value
    return PodObject(value if isinstance(value, dict) else to_json(value, "V1Pod", "the pod"))


def v1_pod(pod: dict[str, Any]) -> Any:
    """The pod as a `kubernetes.client.V1Pod`."""
    from kubernetes import client

    if hasattr(client.V1Pod, "from_dict"):  # kubernetes 37
        return client.V1Pod.from_dict(dict(pod))
    import json

    class Answer:
        data = json.dumps(pod)

    # A Configuration of its own: without one the client would read, or make, the process's default.
    decoder: Any = client.ApiClient(client.Configuration())
    return decoder.deserialize(Answer, "V1Pod")


def readable(pod: dict[str, Any]) -> str:
    """A manifest as YAML for a log: the values of environment variables are left out, they may be secret."""
    import yaml

    spec = {**pod["spec"]}
    for field in ("containers", "initContainers"):
        if spec.get(field):
            spec[field] = [{**container, **_without_values(container)} for container in spec[field]]
    return yaml.safe_dump({**pod, "spec": spec}, sort_keys=False)


def _without_values(container: dict[str, Any]) -> dict[str, Any]:
    env = container.get("env")
    return {"env": [{**entry, "value": "***"} if "value" in entry else entry for entry in env]} if env else {}
