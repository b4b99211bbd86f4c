"""Why a cluster cannot be used: the way to it, walked step by step, each with what was found and what to do next.

Knows no Airflow: whoever starts an examination says how the cluster is found.
"""
