"""What Airflow is told about this provider. Imports nothing: it is read at every start of every component."""

from __future__ import annotations

from typing import Any


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
            {"integration-name": "kpo-multicluster", "python-modules": ["kpo_multicluster.operators.pod"]},
        ],
    }
