"""Finds what runs of DAGs have left behind on a cluster, node groups and pods, and removes it."""
