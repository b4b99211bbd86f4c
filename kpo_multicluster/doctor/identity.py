"""As whom the API server knows us, and what it lets us do."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timezone
from typing import Any

from kpo_multicluster.api.client import ApiClient
from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.diagnose import certificate_end, explain_refusal
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.doctor.report import Outcome, Step
from kpo_multicluster.doctor.rights import Right, asked_for, consequences, prevents_runs, rules
from kpo_multicluster.errors import ForbiddenError, KpoMulticlusterError, NotFoundError

_WHO = ("/apis/authentication.k8s.io/v1/selfsubjectreviews", "authentication.k8s.io/v1", "SelfSubjectReview")
_MAY = ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "authorization.k8s.io/v1", "SelfSubjectAccessReview")
_ANONYMOUS = "system:anonymous"
_EVERYONE = "system:authenticated"
_DEFAULT_NAMESPACE = "default"
_SOON_SECONDS = 7 * 86_400.0


def credentials(access: ClusterAccess) -> Step:
    """What we identify ourselves by, and for how long it lasts; makes the first token."""
    token = access.tokens.current() if access.tokens is not None else None
    certificate = access.client_certificate
    held: list[str] = []
    if token is not None and access.tokens is not None:
        if token.value:
            held.append(f"a token from {access.tokens.source}{_until(token.expires_at)}")
        certificate = token.client_certificate or certificate
    end = certificate_end(certificate) if certificate is not None else None
    if certificate is not None:
        held.append(f"a client certificate{_until(end)}")
    found = f"{access.source}: {' and '.join(held) or 'none'}."
    if end is None:
        return Step("credentials", Outcome.OK, found)
    left = end - time.time()
    if left < 0:
        return Step("credentials", Outcome.FAILED, found, f"It has ended: renew it in {access.source}.")
    if left < _SOON_SECONDS:
        return Step("credentials", Outcome.WARNING, found, f"It ends within a week: renew it in {access.source}.")
    return Step("credentials", Outcome.OK, found)


def _until(end: float | None) -> str:
    if end is None:
        return ", of which no end is known"
    text = datetime.fromtimestamp(end, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    return f", until {text} UTC"


async def authentication(api: ApiClient, ref: ClusterRef) -> tuple[Step, int | None]:
    """Whom the server takes us for; and its minor version, if it tells."""
    path, version, kind = _WHO
    access = api.access
    try:
        review = await api.request("POST", path, body={"apiVersion": version, "kind": kind})
        user = review.get("status", {}).get("userInfo", {})
    except NotFoundError:
        user = {}  # before Kubernetes 1.28
    except ForbiddenError as error:
        # Everyone may ask, by default, who is someone.
        user = {"username": _ANONYMOUS} if _ANONYMOUS in error.detail else {}
    except KpoMulticlusterError as error:
        return Step("authentication", Outcome.FAILED, str(error), "\n".join(explain_refusal(ref, access, error))), None
    name, groups = user.get("username"), [group for group in user.get("groups", ()) if group != _EVERYONE]
    if name == _ANONYMOUS:
        text = (
            f"{access.server} answers, but takes us for {_ANONYMOUS}: the credentials from {access.source} are empty, "
            "or a proxy in between takes them away."
        )
        instead = "Add a token, a client certificate or an exec plugin there."
        return Step("authentication", Outcome.FAILED, text, instead), None
    known, minor = await _version(api)
    member = f", of the groups {', '.join(groups)}" if groups else ""
    whom = f"knows us as {name}{member}" if name else "takes the credential; it does not tell whose it is"
    return Step("authentication", Outcome.OK, f"Kubernetes {known} at {access.server} answers, and {whom}."), minor


async def _version(api: ApiClient) -> tuple[str, int | None]:
    """The server's version, and its minor version as a number."""
    try:
        answer = await api.request("GET", "/version")
    except KpoMulticlusterError:
        answer = {}
    digits = "".join(char for char in str(answer.get("minor", "")) if char.isdigit())
    return str(answer.get("gitVersion", "of an unknown version")), int(digits) if digits else None


async def permissions(api: ApiClient, ref: ClusterRef, namespace: str | None, minor: int | None) -> Step:
    """What of the rights that runs of pods need we have."""
    where = namespace or ref.namespace or api.access.namespace or _DEFAULT_NAMESPACE
    rights = asked_for(minor)
    try:
        allowed = await asyncio.gather(*(_may(api, right, where) for right in rights))
    except (NotFoundError, ForbiddenError) as error:
        return Step(
            "permissions", Outcome.WARNING, f"The server does not tell what we may do: {error}", "Run a pod to see."
        )
    except KpoMulticlusterError as error:
        return Step("permissions", Outcome.FAILED, str(error), "\n".join(explain_refusal(ref, api.access, error)))
    missing = [right for right, may in zip(rights, allowed, strict=True) if not may]
    if not missing:
        return Step("permissions", Outcome.OK, f"All that runs of pods need in the namespace {where!r}.")
    lacking = ", ".join(f"{verb} {resource}" for verb, resource in missing)
    found = f"In the namespace {where!r} we may not {lacking}. So: {'; '.join(consequences(missing))}."
    grant = f"Add to a Role in {where!r} that is bound to the user or group above, as far as it is wanted:"
    outcome = Outcome.FAILED if prevents_runs(missing) else Outcome.WARNING
    return Step("permissions", outcome, found, f"{grant}\n{rules(missing)}")


async def _may(api: ApiClient, right: Right, namespace: str) -> bool:
    verb, resource = right
    name, _, subresource = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "resource": name, "subresource": subresource}
    path, version, kind = _MAY
    body: dict[str, Any] = {"apiVersion": version, "kind": kind, "spec": {"resourceAttributes": attributes}}
    review = await api.request("POST", path, body=body)
    return bool(review.get("status", {}).get("allowed"))
