"""Upstream's module of this name: the exceptions it is imported for."""

from __future__ import annotations

from kpo_multicluster.exceptions import KubernetesApiException, PodLaunchFailedException

__all__ = ["KubernetesApiException", "PodLaunchFailedException"]
