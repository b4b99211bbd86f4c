"""The hook of this package's own type of connection, whose form offers every kind of cluster."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kpo_multicluster.hooks.connection_form import BEHAVIOUR, FIELDS, FORM_NAME, FORM_TYPE, FormField
from kpo_multicluster.hooks.kubernetes import KubernetesHook

__all__ = ["MulticlusterHook"]


class MulticlusterHook(KubernetesHook):
    """Clients for the cluster of a connection of type `kpo_multicluster`.

    It is a `KubernetesHook`, which takes such a connection as well; this one is what Airflow shows the form of.

    Args:
        conn_id: the same as `kubernetes_conn_id`; wins over it.
        kubernetes_conn_id: a connection; None looks none up.
        **arguments: of `KubernetesHook`.
    """

    conn_name_attr = "kubernetes_conn_id"
    default_conn_name = "kpo_multicluster_default"
    conn_type = FORM_TYPE
    hook_name = FORM_NAME

    def __init__(
        self, conn_id: str | None = None, kubernetes_conn_id: str | None = default_conn_name, **arguments: Any
    ) -> None:
        super().__init__(conn_id, kubernetes_conn_id, **arguments)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form for Airflow 3.1, which asks the hook for it; later ones read the provider's metadata."""
        return {name: _widget(entry) for name, entry in FIELDS.items()}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which of Airflow's own fields the form hides; likewise."""
        return {name.replace("-", "_"): value for name, value in BEHAVIOUR.items()}


def _widget(entry: FormField) -> Any:
    # Only where Airflow has the older forms are these installed, or stood in for.
    fields, widgets = import_module("wtforms"), import_module("flask_appbuilder.fieldwidgets")
    validators = import_module("wtforms.validators")
    schema, texts = entry.schema, {"label": entry.label, "description": entry.description}
    if "boolean" in schema["type"]:
        return fields.BooleanField(**texts)
    if schema.get("format") == "password":
        return fields.PasswordField(widget=widgets.BS3PasswordFieldWidget(), **texts)
    checks = [validators.any_of(schema["enum"])] if "enum" in schema else [validators.Optional()]
    long = schema.get("format") == "multiline" or "object" in schema["type"]
    widget = widgets.BS3TextAreaFieldWidget() if long else widgets.BS3TextFieldWidget()
    return fields.StringField(widget=widget, validators=checks, **texts)
