"""Whom a cloud's token stands for: what an API server asks of whoever issued it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Identifier", "Identity", "TokenRefused"]


@dataclass(frozen=True)
class Identity:
    """An identity as a cluster sees it.

    Attributes:
        name: an IAM ARN on EKS, an e-mail address on GKE, an object id on AKS.
        groups: the groups it is in: none on EKS and GKE, object ids of Entra groups on AKS.
    """

    name: str
    groups: tuple[str, ...] = ()


class TokenRefused(Exception):  # noqa: N818  - an answer, not a failure of the one who is asked
    """A token stands for no one: unknown, expired, revoked, or made for something else.

    Args:
        reason: why, for logs and tests; a real API server tells its clients nothing but 401. Never holds the token.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Identifier(Protocol):
    """Whatever tells whom a token stands for: an emulated cloud, or one cluster of it."""

    def identify(self, token: str) -> Identity:
        """Tells whom a token stands for, now.

        Raises:
            TokenRefused: it stands for no one.
        """
        ...
