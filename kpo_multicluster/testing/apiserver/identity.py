"""Who may do what: users, bearer tokens that end, and allow rules after the manner of RBAC."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from kpo_multicluster.testing.apiserver.request_info import RequestInfo
from kpo_multicluster.testing.apiserver.status import StatusError, forbidden, unauthorized
from kpo_multicluster.testing.clouds.identity import Identifier, Identity, TokenRefused

ADMIN = "admin"
_MASTERS = "system:masters"
_ANONYMOUS = "system:anonymous"
_PUBLIC_PATHS = frozenset({"/version", "/readyz", "/livez", "/healthz"})
_DISCOVERY_PREFIXES = ("/api", "/apis", "/openapi")
# Anyone who is known may ask who they are and what they may do.
_REVIEWS = frozenset({"selfsubjectreviews", "selfsubjectaccessreviews"})


@dataclass(frozen=True)
class Rule:
    """Something a user may do.

    Attributes:
        verbs: such as `get`, `list`, `watch`, `create`, `patch`, `delete`; `*` for all.
        resources: such as `pods` or `pods/log`; `*` for all. `pods` does not include `pods/log`.
        namespaces: where; `*` for everywhere, cluster-scoped resources included.
        names: of objects; empty for any.
    """

    verbs: tuple[str, ...]
    resources: tuple[str, ...]
    namespaces: tuple[str, ...] = ("*",)
    names: tuple[str, ...] = ()

    def allows(self, info: RequestInfo) -> bool:
        """Whether the rule covers the request."""
        return (
            _covers(self.verbs, info.verb)
            and _covers(self.resources, info.qualified_resource)
            and _covers(self.namespaces, info.namespace)
            and (not self.names or info.name in self.names)
        )


def _covers(allowed: tuple[str, ...], wanted: str) -> bool:
    return "*" in allowed or wanted in allowed


@dataclass(frozen=True)
class User:
    """Someone the server knows.

    Attributes:
        name: as in messages; a service account is `system:serviceaccount:NAMESPACE:NAME`.
        token: bearer token; one is made up when empty.
        rules: what the user may do; None for everything.
        groups: besides `system:authenticated`.
    """

    name: str
    token: str = field(default="", repr=False)
    rules: tuple[Rule, ...] | None = None
    groups: tuple[str, ...] = ()


class Identities:
    """The users of one server and the tokens they go by. Safe to use from any thread.

    Args:
        users: to begin with; `ADMIN` is added when absent.
        clock: Unix time in seconds.
    """

    def __init__(self, users: Iterable[User], *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._users: dict[str, User] = {}
        self._uids: dict[str, str] = {}
        self._tokens: dict[str, tuple[str, float | None]] = {}
        self._group_rules: dict[str, tuple[Rule, ...]] = {}
        self._identifiers: tuple[Identifier, ...] = ()
        for user in (User(ADMIN, groups=(_MASTERS,)), *users):
            self.add(user)

    def add(self, user: User) -> User:
        """Adds or replaces a user; gives it back with its token."""
        user = replace(user, token=user.token or secrets.token_urlsafe(24))
        with self._lock:
            self._users[user.name] = user
            self._uids.setdefault(user.name, str(uuid.uuid4()))
            self._tokens[user.token] = (user.name, None)
        return user

    def user(self, name: str) -> User:
        """The user of this name.

        Raises:
            KeyError: there is none.
        """
        return self._users[name]

    def uid(self, user: User) -> str:
        """The uid the server knows a user by."""
        return self._uids.get(user.name, "")

    def issue(self, name: str, *, lifetime_seconds: float | None = None) -> str:
        """A further token of a user.

        Args:
            name: of the user.
            lifetime_seconds: after which it is refused; None for never.

        Raises:
            KeyError: there is no such user.
        """
        self.user(name)
        token, now = secrets.token_urlsafe(24), self._clock()
        with self._lock:
            # Every pod is given one: those that ended must not pile up.
            live = {key: held for key, held in self._tokens.items() if held[1] is None or now < held[1]}
            self._tokens = {**live, token: (name, None if lifetime_seconds is None else now + lifetime_seconds)}
        return token

    def issue_to_service_account(self, namespace: str, name: str, *, lifetime_seconds: float) -> str:
        """A token for pods of a service account, which may do nothing unless a `User` of its full name says so."""
        user = f"system:serviceaccount:{namespace}:{name}"
        if user not in self._users:
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
            self.add(User(user, rules=(), groups=groups))
        return self.issue(user, lifetime_seconds=lifetime_seconds)

    def revoke(self, token: str) -> None:
        """Refuses a token from now on."""
        with self._lock:
            self._tokens.pop(token, None)

    @property
    def asks_others(self) -> bool:
        """Whether `authenticate` may ask someone else, and block."""
        return bool(self._identifiers)

    def ask_also(self, identifier: Identifier) -> None:
        """Has someone else asked about tokens that are not known here, after those who were added before."""
        self._identifiers = (*self._identifiers, identifier)

    def bind_group(self, group: str, rules: Iterable[Rule]) -> None:
        """Lets the members of a group do something, besides what rules of their own allow."""
        with self._lock:
            self._group_rules[group] = tuple(rules)

    def authenticate(self, authorization: str, certificate_name: str = "") -> User | None:
        """Who sent a request; None for anonymous. Blocks while others are asked, if there are any to ask.

        Args:
            authorization: the header of that name.
            certificate_name: common name of a client certificate this server's CA signed; may be empty.

        Raises:
            StatusError: 401, there is a token and it is not good.
        """
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            return self._users.get(certificate_name)
        name, expires_at = self._tokens.get(token.strip(), ("", None))
        if name in self._users and (expires_at is None or self._clock() < expires_at):
            return self._with_groups(self._users[name])
        return self._told_by_others(token.strip())

    def _told_by_others(self, token: str) -> User:
        for identifier in self._identifiers:
            with contextlib.suppress(TokenRefused):
                return self._of(identifier.identify(token))
        raise unauthorized()

    def _of(self, identity: Identity) -> User:
        # The administrator of this cluster is known by its own credentials only.
        known = self._users.get(identity.name) if identity.name != ADMIN else None
        rules = () if known is None else known.rules
        groups = identity.groups if known is None else (*known.groups, *identity.groups)
        return self._with_groups(User(identity.name, rules=rules, groups=groups))

    def _with_groups(self, user: User) -> User:
        if user.rules is None or _MASTERS in user.groups:
            return replace(user, rules=None)
        also = [rule for group in user.groups for rule in self._group_rules.get(group, ())]
        return replace(user, rules=(*user.rules, *also)) if also else user


def may(user: User | None, info: RequestInfo) -> bool:
    """Whether a user (None for anonymous) may make a request."""
    if not info.resource:
        public = info.path in _PUBLIC_PATHS or any(info.path.startswith(path + "/") for path in _PUBLIC_PATHS)
        if user is None or public:
            return public
        return user.rules is None or any(
            info.path == path or info.path.startswith(path + "/") for path in _DISCOVERY_PREFIXES
        )
    if user is None:
        return False
    if user.rules is None or (info.group and info.resource in _REVIEWS):
        return True
    return any(rule.allows(info) for rule in user.rules)


def authorize(user: User | None, info: RequestInfo) -> None:
    """Refuses a request its sender may not make.

    Raises:
        StatusError: 403, with who was refused what.
    """
    if may(user, info):
        return
    name = user.name if user else _ANONYMOUS
    if not info.resource:
        message = f'forbidden: User "{name}" cannot {info.verb} path "{info.path}"'
        raise StatusError(403, "Forbidden", message, details={})
    scope = f'in the namespace "{info.namespace}"' if info.namespace else "at the cluster scope"
    why = f'User "{name}" cannot {info.verb} resource "{info.qualified_resource}" in API group "{info.group}" {scope}'
    raise forbidden(info.resource, info.name, why)
