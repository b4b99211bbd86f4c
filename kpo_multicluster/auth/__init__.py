"""Who and where: a `ClusterRef` becomes a `ClusterAccess`. Knows no pods and no Airflow."""
