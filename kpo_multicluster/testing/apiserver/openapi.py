"""As much of OpenAPI v3 as `kubectl create` and `kubectl apply` ask for: that the server checks fields by itself."""

from __future__ import annotations

from typing import Any

from kpo_multicluster.testing.apiserver.resources import RESOURCES, Resource

ROOT = "/openapi/v3"
CORE = f"{ROOT}/api/v1"

_FIELD_VALIDATION = {"name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": True}}


def documents() -> dict[str, dict[str, Any]]:
    """The documents by path."""
    paths: dict[str, Any] = {}
    for resource in RESOURCES.values():
        scope = "/api/v1/namespaces/{namespace}" if resource.namespaced else "/api/v1"
        paths[f"{scope}/{resource.plural}"] = {"post": _operation(resource, "post")}
        paths[f"{scope}/{resource.plural}/{{name}}"] = {verb: _operation(resource, verb) for verb in ("patch", "put")}
    core = {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.34"}, "paths": paths, "components": {}}
    return {ROOT: {"paths": {"api/v1": {"serverRelativeURL": CORE}}}, CORE: core}


def _operation(resource: Resource, verb: str) -> dict[str, Any]:
    return {
        "parameters": [_FIELD_VALIDATION],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": {"group": "", "version": "v1", "kind": resource.kind},
    }
