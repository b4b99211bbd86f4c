"""Airflow provider that runs pods on any number of Kubernetes clusters.

The package is imported at DAG parse, so nothing here imports anything heavy.
"""

__version__ = "0.1.0"
