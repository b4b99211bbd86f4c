"""Create, read, change and delete: what the server does to its objects, without the HTTP around it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from kpo_multicluster.testing.apiserver import deletion
from kpo_multicluster.testing.apiserver.decoding import shaped, type_problem
from kpo_multicluster.testing.apiserver.listing import ListOptions, list_objects
from kpo_multicluster.testing.apiserver.naming import generated_name
from kpo_multicluster.testing.apiserver.pod_defaults import mount_service_account
from kpo_multicluster.testing.apiserver.resources import NAMESPACES, PODS, Resource
from kpo_multicluster.testing.apiserver.selectors import Matches
from kpo_multicluster.testing.apiserver.status import (
    StatusError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    invalid_value,
    not_found,
    stale,
    too_large_resource_version,
)
from kpo_multicluster.testing.apiserver.strategies import STRATEGIES
from kpo_multicluster.testing.apiserver.timestamps import to_seconds
from kpo_multicluster.testing.control_plane import ControlPlane, new_uid
from kpo_multicluster.testing.store import Store

# What clients may send but only the server decides.
_SERVER_METADATA = (
    *("uid", "resourceVersion", "generation", "creationTimestamp"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"),
)
_KEPT_METADATA = (
    *("namespace", "uid", "generation", "creationTimestamp"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "generateName"),
)
_BUILT_IN_PRIORITIES = frozenset({"system-cluster-critical", "system-node-critical"})

Item = dict[str, Any]


class ObjectApi:
    """The objects of one server.

    Args:
        store: holds them.
        control: is told of what happened to them.
        clock: Unix time in seconds.
    """

    def __init__(self, store: Store, control: ControlPlane, clock: Callable[[], float]) -> None:
        self._store = store
        self._control = control
        self._clock = clock

    def get(self, resource: Resource, namespace: str, name: str, *, version: int = 0) -> Item:
        """An object.

        Raises:
            StatusError: 404; 504 when `version` is in the future.
        """
        if version > self._store.version:
            raise too_large_resource_version(version, self._store.version)
        item = self._store.get(resource.plural, namespace, name)
        if item is None:
            raise not_found(resource.plural, name)
        return item

    def list(self, resource: Resource, namespace: str, options: ListOptions) -> Item:
        """The list object.

        Raises:
            StatusError: 410 a version is no longer held, 504 it is in the future.
        """
        return list_objects(self._store, resource, namespace, options)

    def create(self, resource: Resource, namespace: str, item: Item, *, dry_run: bool = False) -> Item:
        """Stores a new object; gives it back.

        Raises:
            StatusError: 400, 403, 404, 409, 422 or 500.
        """
        metadata, strategy = item["metadata"], STRATEGIES[resource.plural]
        if resource.namespaced:
            self._admit(resource, namespace, metadata)
            metadata["namespace"] = namespace
        if metadata.get("resourceVersion"):
            raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
        for key in _SERVER_METADATA:
            metadata.pop(key, None)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = generated_name(metadata["generateName"])
        strategy.defaults(item)
        strategy.creation(item)
        if resource is PODS:
            self._admit_pod(item, namespace)
        if errors := strategy.errors(item):
            raise invalid(resource.kind, metadata.get("name", ""), errors)
        if self._store.get(resource.plural, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise already_exists(resource.plural, metadata["name"])
        metadata["uid"] = new_uid()
        metadata["creationTimestamp"] = to_seconds(self._clock())
        if dry_run:
            return item
        stored = self._store.put(resource.plural, item)
        self._control.created(resource.plural, stored)
        return stored

    def _admit(self, resource: Resource, namespace: str, metadata: Mapping[str, Any]) -> None:
        if metadata.get("namespace") not in (None, "", namespace):
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        owner = self._store.get("namespaces", "", namespace)
        if owner is None:
            raise not_found("namespaces", namespace)
        if owner["status"]["phase"] == "Terminating":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            error = forbidden(resource.plural, metadata.get("name", ""), why)
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            error.body["details"]["causes"] = [cause]
            raise error

    def _admit_pod(self, pod: Item, namespace: str) -> None:
        spec, name = pod["spec"], pod["metadata"].get("name", "")
        priority = spec.get("priorityClassName", "")
        if priority and priority not in _BUILT_IN_PRIORITIES:
            raise forbidden("pods", name, f"no PriorityClass with name {priority} was found")
        account_name = spec["serviceAccountName"]
        account = self._store.get("serviceaccounts", namespace, account_name)
        if account is None:
            where = f"{namespace}/{account_name}"
            why = f'error looking up service account {where}: serviceaccount "{account_name}" not found'
            raise forbidden("pods", name, why)
        mount_service_account(pod, account)

    def replace(
        self, resource: Resource, namespace: str, name: str, item: Item, *, subresource: str = "", dry_run: bool = False
    ) -> Item:
        """Puts an object in the place of the one of that name.

        Raises:
            StatusError: 400, 404, 409 or 422.
        """
        given = item["metadata"].get("name")
        if not given:
            raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
        if given != name:
            raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        old = self.get(resource, namespace, name)
        uid = item["metadata"].get("uid")
        if uid and uid != old["metadata"]["uid"]:
            key = "/".join(part for part in ("/registry", resource.plural, namespace, name) if part)
            why = (
                f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
            )
            raise conflict(resource.plural, name, why)
        return self._change(resource, old, item, subresource, dry_run)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        apply: Callable[[Item], Item],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Item:
        """Changes an object by what `apply` makes of it.

        Raises:
            StatusError: 400, 404, 409, 415, 422 or 500.
        """
        old = self.get(resource, namespace, name)
        changed = apply(copy.deepcopy(old))
        if problem := type_problem(changed, resource.kind):
            raise invalid("", "", [invalid_value("patch", json.dumps(changed), problem)])
        new = shaped(changed, resource.kind, "v1")
        given = new["metadata"].get("name")
        if given != name:
            raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")
        if (uid := new["metadata"].get("uid")) != old["metadata"]["uid"]:
            raise invalid(resource.kind, name, [invalid_value("metadata.uid", uid, "field is immutable")])
        return self._change(resource, old, new, subresource, dry_run)

    def _change(self, resource: Resource, old: Item, new: Item, subresource: str, dry_run: bool) -> Item:
        strategy, metadata, name = STRATEGIES[resource.plural], new["metadata"], old["metadata"]["name"]
        version = metadata.pop("resourceVersion", "")
        if version and version != old["metadata"]["resourceVersion"]:
            raise stale(resource.plural, name)
        for key in (*_SERVER_METADATA, *_KEPT_METADATA):
            metadata.pop(key, None)
        metadata.update({key: old["metadata"][key] for key in _KEPT_METADATA if key in old["metadata"]})
        if subresource == "status":
            new = {**copy.deepcopy(old), "metadata": metadata, "status": new.get("status", {})}
            if resource is PODS:
                new["status"].setdefault("qosClass", old["status"].get("qosClass", "BestEffort"))
        else:
            strategy.defaults(new)
            if strategy.has_status:
                new["status"] = copy.deepcopy(old["status"])
            if errors := strategy.errors(new) or strategy.update_errors(new, old):
                raise invalid(resource.kind, name, errors)
            if strategy.has_generation and new["spec"] != old["spec"]:
                metadata["generation"] = metadata.get("generation", 0) + 1
        if dry_run:
            metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
            return new
        stored = self._store.put(resource.plural, new)
        self._control.updated(resource.plural, stored)
        if resource is PODS and stored["spec"] != old["spec"]:
            self._control.respecified(stored)
        self._control.settle(resource.plural, stored)
        return stored

    def delete(self, resource: Resource, namespace: str, name: str, options: deletion.DeleteOptions) -> Item:
        """Deletes an object, or begins to; gives back the object or a `Status`, as real servers do.

        Raises:
            StatusError: 403, 404 or 409.
        """
        item = self.get(resource, namespace, name)
        if resource is NAMESPACES and name in ("default", "kube-system", "kube-public"):
            raise forbidden("namespaces", name, "this namespace may not be deleted")
        deletion.check_preconditions(resource, item, options)
        marked, changed = deletion.mark(resource, item, options, self._clock)
        if options.dry_run:
            return marked
        if changed:
            marked = self._begin(resource, marked)
        if resource.returns_deleted or marked["metadata"].get("finalizers"):
            return marked
        details = {"name": name, "kind": resource.plural, "uid": item["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _begin(self, resource: Resource, marked: Item) -> Item:
        metadata = marked["metadata"]
        if resource is not PODS and resource is not NAMESPACES and not metadata.get("finalizers"):
            # Nothing to wait for: real servers store no state between being there and being gone.
            namespace, name = metadata.get("namespace", ""), metadata["name"]
            last = self._store.delete(resource.plural, namespace, name)
            self._control.updated(resource.plural, last)
            return last
        stored = self._store.put(resource.plural, marked)
        if resource is PODS:
            self._control.stop_pod(stored, metadata["deletionGracePeriodSeconds"])
        if resource is NAMESPACES:
            self._empty(metadata["name"])
            return stored
        self._collect(resource, stored)
        return stored

    def _collect(self, resource: Resource, stored: Item) -> None:
        """What the garbage collector does: nothing here has dependents, so foreground deletion may go on at once."""
        finalizers = stored["metadata"].get("finalizers", [])
        if "foregroundDeletion" in finalizers:
            stored = copy.deepcopy(stored)
            stored["metadata"]["finalizers"] = [entry for entry in finalizers if entry != "foregroundDeletion"]
            if not stored["metadata"]["finalizers"]:
                del stored["metadata"]["finalizers"]
            stored = self._store.put(resource.plural, stored)
        self._control.settle(resource.plural, stored)

    def _empty(self, namespace: str) -> None:
        for pod in self._store.objects("pods", namespace):
            self.delete(PODS, namespace, pod["metadata"]["name"], deletion.DeleteOptions())
        self._control.finish_namespace(namespace)

    def delete_collection(
        self, resource: Resource, namespace: str, matches: Matches, options: deletion.DeleteOptions
    ) -> Item:
        """Deletes what matches; gives back the list of what was there."""
        listed = self.list(resource, namespace, ListOptions(matches))
        for item in listed["items"]:
            self.delete(resource, item["metadata"].get("namespace", ""), item["metadata"]["name"], options)
        return listed
