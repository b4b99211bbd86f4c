"""Capacity: node groups of EKS, node pools of GKE, agent pools of AKS, by one spec and one lifecycle."""
