"""The form of this package's own type of connection: which fields it has, and for which kinds of cluster.

Imports nothing: Airflow reads it with the provider's metadata, at every start of every component.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

FORM_TYPE: Final = "kpo_multicluster"
FORM_NAME: Final = "Kubernetes Cluster (any cloud)"
KIND_FIELD: Final = "cluster_kind"
OPTIONS_FIELD: Final = "cluster_options"

CLUSTER_KINDS: Final[Mapping[str, str]] = {
    "in_cluster": "The one Airflow runs in",
    "kubeconfig": "Kubeconfig",
    "token": "API server and token",
    "eks": "Amazon EKS",
    "gke": "Google GKE",
    "aks": "Azure AKS",
}
_CLOUDS: Final = ("eks", "gke", "aks")
# What is for every kind is in the first section, which has Airflow's own title.
_SECTIONS: Final[Mapping[tuple[str, ...], str]] = {
    **{(kind,): shown for kind, shown in CLUSTER_KINDS.items()},
    _CLOUDS: "EKS, GKE, AKS",
    ("token", *_CLOUDS): "Certificate of the API server",
    ("kubeconfig", "token"): "Certificate of the API server",
}
_SIDECAR: Final = "XCom sidecar"


@dataclass(frozen=True)
class FormField:
    """One field of the form.

    Attributes:
        label: as the form shows it.
        description: below it.
        kinds: of cluster that it is for; empty for all.
        option: of a cluster of these kinds that it fills in; empty where it is something else.
        schema: JSON Schema of its value, which decides how the form shows it.
        section: of the form that it is in, where that does not follow from its kinds.
    """

    label: str
    description: str
    kinds: tuple[str, ...] = ()
    option: str = ""
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": ["string", "null"]})
    section: str = ""

    def metadata(self) -> dict[str, Any]:
        """The field as the provider's metadata has it."""
        name = self.section or (_SECTIONS[self.kinds] if self.kinds else "")
        section = {"section": name} if name else {}
        return {"label": self.label, "description": self.description, "schema": {**self.schema, **section}}


_LINES: Final = {"type": ["string", "null"], "format": "multiline"}
_SECRET: Final = {"type": ["string", "null"], "format": "password"}
_FLAG: Final = {"type": ["boolean", "null"]}
_OBJECT: Final = {"type": ["object", "null"]}

# What holds a secret has a name by which Airflow masks it: with "token" or "secret" in it.
FIELDS: Final[Mapping[str, FormField]] = {
    KIND_FIELD: FormField(
        "Cluster kind",
        "What leads to the cluster. Fill in the sections of that kind, and leave those of others empty.",
        schema={"type": "string", "enum": list(CLUSTER_KINDS), "values_display": dict(CLUSTER_KINDS)},
    ),
    "namespace": FormField("Namespace", "Where pods go whose task names none."),
    OPTIONS_FIELD: FormField(
        "Further options",
        'JSON: more options of a cluster of that kind, such as {"login": "workload-identity"} for AKS.',
        schema=_OBJECT,
    ),
    "kubeconfig_path": FormField(
        "Kubeconfig file", "Kubeconfig: path of it where workers and triggerers run.", ("kubeconfig",), "path"
    ),
    "kubeconfig_secret": FormField(
        "Kubeconfig, pasted",
        "Kubeconfig: its text, in place of a file. It is masked once it is saved.",
        ("kubeconfig",),
        "document",
        _LINES,
    ),
    "context": FormField(
        "Context", "Kubeconfig: which one of it. Empty: its current context.", ("kubeconfig",), "context"
    ),
    "server": FormField(
        "API server", "API server and token: https URL, such as https://10.0.0.1:6443.", ("token",), "server"
    ),
    "token": FormField("Token", "API server and token: a bearer token.", ("token",), "token", _SECRET),
    "token_file": FormField(
        "Token file",
        "API server and token: path of a file that holds it, in place of the token.",
        ("token",),
        "token_file",
    ),
    "cluster_name": FormField(
        "Cluster name",
        "EKS, GKE, AKS: name of the cluster. An ARN, a path or a resource id tells its place as well.",
        _CLOUDS,
        "cluster_name",
    ),
    "cloud_conn_id": FormField(
        "Cloud connection",
        "EKS, GKE, AKS: id of the connection of type aws, google_cloud_platform or azure whose credentials to use. "
        "Empty: those of the process.",
        _CLOUDS,
        "conn_id",
    ),
    "endpoint": FormField(
        "Endpoint",
        "EKS: https URL of the API server. GKE: public, private, dns, connect-gateway or a URL. AKS: public, private "
        "or a URL. Empty: as the cloud says.",
        _CLOUDS,
        "endpoint",
    ),
    "region": FormField("Region", "EKS: of the cluster, such as us-east-2.", ("eks",), "region"),
    "role_arn": FormField(
        "Role", "EKS: ARN of a role to assume, such as one in the cluster's account.", ("eks",), "role_arn"
    ),
    "external_id": FormField("External id", "EKS: that the role's trust policy asks for.", ("eks",), "external_id"),
    "location": FormField("Location", "GKE: region or zone of the cluster.", ("gke",), "location"),
    "project": FormField("Project", "GKE: of the cluster. Empty: that of the credentials.", ("gke",), "project"),
    "impersonation_chain": FormField(
        "Impersonation chain",
        "GKE: service account to impersonate, or several with commas between them.",
        ("gke",),
        "impersonation_chain",
    ),
    "resource_group": FormField("Resource group", "AKS: of the cluster.", ("aks",), "resource_group"),
    "subscription": FormField(
        "Subscription", "AKS: id of the subscription. Empty: that of the cloud connection.", ("aks",), "subscription"
    ),
    "ca_data": FormField(
        "CA certificate",
        "API server and token, or a cloud's endpoint that is a URL: the server's CA, PEM or base64 of it. Empty: the "
        "system's CAs.",
        ("token", *_CLOUDS),
        "ca_data",
        _LINES,
    ),
    "insecure_skip_tls_verify": FormField(
        "Accept any certificate",
        "Kubeconfig, API server and token: for tests only.",
        ("kubeconfig", "token"),
        "insecure_skip_tls_verify",
        _FLAG,
    ),
    "xcom_sidecar_container_image": FormField("XCom sidecar image", "In place of the default one.", section=_SIDECAR),
    "xcom_sidecar_container_resources": FormField("XCom sidecar resources", "JSON.", schema=_OBJECT, section=_SIDECAR),
    "xcom_sidecar_container_security_context": FormField(
        "XCom sidecar security context", "JSON.", schema=_OBJECT, section=_SIDECAR
    ),
}
# The port is nothing to this package: Airflow 3.3.2 refuses to test a connection that has none.
BEHAVIOUR: Final[Mapping[str, Any]] = {
    "hidden-fields": ["host", "schema", "login", "password", "extra"],
    "relabeling": {"port": "Port (not used)"},
    "placeholders": {"port": "443, if Airflow's Test asks for one"},
}


def as_shown(name: str) -> str:
    """A field as the form shows it, for messages."""
    return f"{FIELDS[name].label!r} ({name})"


def connection_type() -> dict[str, Any]:
    """The form as the provider's metadata has it."""
    return {
        "connection-type": FORM_TYPE,
        "hook-class-name": "kpo_multicluster.hooks.multicluster.MulticlusterHook",
        "hook-name": FORM_NAME,
        "conn-fields": {name: entry.metadata() for name, entry in FIELDS.items()},
        "ui-field-behaviour": dict(BEHAVIOUR),
    }
