"""What Airflow is told about this provider. Imports next to nothing: every component reads it when it starts."""

from __future__ import annotations

from typing import Any

from kpo_multicluster.hooks.connection_form import connection_type


def get_provider_info() -> dict[str, Any]:
    """Provider metadata in the shape of Airflow's `provider_info.schema.json`."""
    return {
        "package-name": "kpo-multicluster",
        "name": "Kubernetes pods on many clusters",
        "description": "Runs pods on any number of Kubernetes clusters, with credentials made and renewed in process.",
        "integrations": [
            {
                "integration-name": "kpo-multicluster",
                "external-doc-url": "https://kubernetes.io/docs/concepts/workloads/pods/",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": "kpo-multicluster",
                "python-modules": [
                    "kpo_multicluster.operators.pod",
                    "kpo_multicluster.operators.eks",
                    "kpo_multicluster.operators.gke",
                    "kpo_multicluster.operators.aks",
                    "kpo_multicluster.operators.node_groups",
                    "kpo_multicluster.operators.gpu_nodes",
                    "kpo_multicluster.operators.reap",
                ],
            },
        ],
        "sensors": [
            {"integration-name": "kpo-multicluster", "python-modules": ["kpo_multicluster.sensors.node_groups"]},
        ],
        "hooks": [
            {
                "integration-name": "kpo-multicluster",
                "python-modules": ["kpo_multicluster.hooks.kubernetes", "kpo_multicluster.hooks.multicluster"],
            },
        ],
        "connection-types": [connection_type()],
        "triggers": [
            {
                "integration-name": "kpo-multicluster",
                "python-modules": ["kpo_multicluster.triggers.pod", "kpo_multicluster.triggers.node_groups"],
            },
        ],
        "extra-links": ["kpo_multicluster.operators.links.PodConsoleLink"],
        "task-decorators": [
            {"name": "pod", "class-name": "kpo_multicluster.decorators.pod.pod_task"},
            {"name": "pod_cmd", "class-name": "kpo_multicluster.decorators.pod_cmd.pod_cmd_task"},
        ],
    }
