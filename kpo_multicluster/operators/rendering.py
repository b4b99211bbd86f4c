"""Templates within Kubernetes objects and in the names of environment variables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kpo_multicluster.airflow_names import BaseOperator

# Fields of model objects that may hold templates, as upstream renders them.
_FIELDS: dict[str, tuple[str, ...]] = {
    "V1EnvVar": ("value", "name"),
    "V1ResourceRequirements": ("limits", "requests"),
    "V1Volume": ("name", "persistent_volume_claim", "config_map"),
    "V1VolumeMount": ("name", "sub_path"),
    "V1PersistentVolumeClaimVolumeSource": ("claim_name",),
    "V1ConfigMapVolumeSource": ("name",),
    "V1EnvFromSource": ("config_map_ref",),
    "V1ConfigMapEnvSource": ("name",),
}


class PodTemplates(BaseOperator):
    """Renders what Airflow by itself would leave as it is."""

    env_vars: Any

    # Not render_template_fields: a mapped task is rendered without it.
    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Any, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        if parent is self and _has_templated_name(self.env_vars):
            # Airflow renders the values of a dictionary alone.
            self.env_vars = [{"name": name, "value": value} for name, value in self.env_vars.items()]
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)

    def _render_nested_template_fields(self, value: Any, context: Any, jinja_env: Any, seen_oids: set[int]) -> None:
        fields = _FIELDS.get(type(value).__name__) if hasattr(value, "openapi_types") else None
        if fields is None:
            super()._render_nested_template_fields(value, context, jinja_env, seen_oids)
        elif id(value) not in seen_oids:
            seen_oids.add(id(value))
            self._do_render_template_fields(value, fields, context, jinja_env, seen_oids)


def _has_templated_name(variables: Any) -> bool:
    return isinstance(variables, dict) and any("{" in name for name in variables if isinstance(name, str))
