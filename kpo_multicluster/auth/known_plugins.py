"""The exec plugins that are served in process, so that a kubeconfig which names one works where it is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kpo_multicluster.auth.exec_plugin import InProcessPlugin
from kpo_multicluster.auth.plugins_aws import aws, aws_iam_authenticator
from kpo_multicluster.auth.plugins_azure import kubelogin
from kpo_multicluster.auth.plugins_google import gke_gcloud_auth_plugin

KNOWN_PLUGINS: Mapping[str, InProcessPlugin] = MappingProxyType(
    {
        "aws": aws,
        "aws-iam-authenticator": aws_iam_authenticator,
        "heptio-authenticator-aws": aws_iam_authenticator,
        "gke-gcloud-auth-plugin": gke_gcloud_auth_plugin,
        "kubelogin": kubelogin,
    }
)
"""By file name of the command."""
