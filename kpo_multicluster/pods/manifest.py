"""The manifest of a pod, from the operator's arguments, a template and the run's identity.

In order of precedence: the arguments, `full_pod_spec`, `pod_template_file`, `pod_template_dict` (not read beside a
file). How layers merge: `kpo_multicluster.pods.merge`. Where the result differs from the upstream operator's:
docs/differences.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kpo_multicluster.pods.arguments import PodArguments
from kpo_multicluster.pods.labels import RunIdentity, run_annotations, run_labels
from kpo_multicluster.pods.merge import merge_pods
from kpo_multicluster.pods.naming import clean_name, pod_name, random_suffix, task_name
from kpo_multicluster.pods.overlay import argument_json, check_arguments, overlay
from kpo_multicluster.pods.secret import attach_secrets
from kpo_multicluster.pods.sidecar import add_sidecar
from kpo_multicluster.pods.template import load_template

__all__ = ["PodArguments", "RunIdentity", "build_manifest", "check_arguments"]

_DEFAULT_NAMESPACE: Final = "default"


def build_manifest(
    arguments: PodArguments, run: RunIdentity, *, name_suffix: Callable[[], str] = random_suffix
) -> dict[str, Any]:
    """The manifest of a run's pod; neither argument is changed, nor shared with the result.

    Args:
        arguments: the operator's, with templates rendered.
        run: whose pod it is.
        name_suffix: makes the random end of the name.

    Raises:
        ConfigurationError: an argument is of a wrong type, or a template cannot be read; the message names it.
    """
    pod = merge_pods(_template(arguments), overlay(arguments))
    metadata = pod["metadata"]
    metadata["name"] = _name(arguments, metadata.get("name"), run, name_suffix)
    metadata["namespace"] = metadata.get("namespace") or run.cluster_namespace or _DEFAULT_NAMESPACE
    base_name = argument_json("base_container_name", arguments.base_container_name)
    base = next(container for container in pod["spec"]["containers"] if container.get("name") == base_name)
    base.setdefault("terminationMessagePolicy", arguments.termination_message_policy)
    attach_secrets(pod, base, arguments.secrets or ())
    if _is_set(arguments, "do_xcom_push"):
        add_sidecar(pod, base, arguments)
    metadata["labels"] = {**(metadata.get("labels") or {}), **run_labels(run)}
    if annotations := run_annotations(run):
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
    return pod


def _template(arguments: PodArguments) -> dict[str, Any]:
    pod: dict[str, Any] = {}
    if arguments.pod_template_file:
        pod = load_template(argument_json("pod_template_file", arguments.pod_template_file))
    elif arguments.pod_template_dict:
        pod = argument_json("pod_template_dict", arguments.pod_template_dict)
    if arguments.full_pod_spec:
        pod = merge_pods(pod, argument_json("full_pod_spec", arguments.full_pod_spec))
    return pod


def _name(arguments: PodArguments, template: str | None, run: RunIdentity, suffix: Callable[[], str]) -> str:
    end = suffix if _is_set(arguments, "random_name_suffix") else None
    if arguments.name:
        return pod_name(clean_name(argument_json("name", arguments.name)), end)
    return pod_name(template or task_name(run.task_id), end)


def _is_set(arguments: PodArguments, flag: str) -> bool:
    value = getattr(arguments, flag)
    return bool(value) and bool(argument_json(flag, value))
