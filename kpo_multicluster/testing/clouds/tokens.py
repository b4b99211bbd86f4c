"""The tokens an emulated cloud issued: to whom, for what, until when."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused


@dataclass(frozen=True)
class IssuedToken:
    """A token.

    Attributes:
        value: the token itself.
        identity: whom it stands for.
        audience: what it is for: the scopes or the resource that was asked for, separated by spaces.
        issued_at: Unix time in seconds.
        expires_at: Unix time in seconds.
        revoked: whether it is refused before its end.
    """

    value: str = field(repr=False)
    identity: Identity
    audience: str
    issued_at: float
    expires_at: float
    revoked: bool = False


class TokenBook:
    """All tokens of one cloud. Safe to use from any thread.

    Args:
        clock: Unix time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._issued: dict[str, IssuedToken] = {}

    def issue(self, value: str, identity: Identity, *, audience: str, life_seconds: float) -> IssuedToken:
        """Notes a token that is handed out now."""
        now = self._clock()
        made = IssuedToken(value, identity, audience, now, now + life_seconds)
        with self._lock:
            self._issued[value] = made
        return made

    def all(self) -> tuple[IssuedToken, ...]:
        """All tokens, in the order they were issued."""
        with self._lock:
            return tuple(self._issued.values())

    def issued(self, *, to: str | None = None, audience: str | None = None) -> tuple[IssuedToken, ...]:
        """The tokens issued to an identity, or for something; in order.

        Args:
            to: name of the identity; None for any.
            audience: None for any.
        """
        return tuple(
            token
            for token in self.all()
            if to in (None, token.identity.name) and (audience is None or audience in token.audience.split())
        )

    def find(self, value: str) -> IssuedToken | None:
        """The token, good or not; None for one that was never issued."""
        with self._lock:
            return self._issued.get(value)

    def good(self, value: str) -> IssuedToken:
        """The token, if it is still good.

        Raises:
            TokenRefused: it was never issued, has expired, or was revoked.
        """
        token = self.find(value)
        if token is None:
            raise TokenRefused("it was not issued here")
        if token.revoked:
            raise TokenRefused(f"it was revoked; it stood for {token.identity.name}")
        if self._clock() >= token.expires_at:
            ago = self._clock() - token.expires_at
            raise TokenRefused(f"it expired {ago:.1f} s ago; it stood for {token.identity.name}")
        return token

    def revoke(self, value: str) -> None:
        """Refuses a token from now on; harmless for one that was never issued."""
        with self._lock:
            if value in self._issued:
                self._issued[value] = replace(self._issued[value], revoked=True)

    def revoke_all(self) -> None:
        """Refuses all that were issued until now."""
        with self._lock:
            self._issued = {value: replace(token, revoked=True) for value, token in self._issued.items()}

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._issued.clear()


# -- signed tokens ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """A key of this process; the same for the same number, as making one takes a tenth of a second."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key: rsa.RSAPrivateKey) -> str:
    """A key in PEM."""
    form, seal = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, seal).decode()


def sign_jwt(key: rsa.RSAPrivateKey, claims: Mapping[str, Any], *, key_id: str) -> str:
    """A JSON Web Token, signed with RS256."""
    head = {"typ": "JWT", "alg": "RS256", "kid": key_id}
    text = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
    return f"{text}.{_encoded(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@dataclass(frozen=True)
class Jwt:
    """A JSON Web Token, taken apart; nothing of it is verified before `verify`."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Jwt:
        """Takes a token apart.

        Raises:
            TokenRefused: it is none.
        """
        parts = text.split(".")
        try:
            head, claims = (json.loads(_decoded(part)) for part in parts[:2])
            signature = _decoded(parts[2])
        except (ValueError, IndexError):
            head = claims = None
        if len(parts) != 3 or not isinstance(head, dict) or not isinstance(claims, dict):
            raise TokenRefused("it is not a JSON Web Token")
        return cls(head, claims, ".".join(parts[:2]).encode(), signature)

    def verify(self, key: Any) -> None:
        """Checks the signature.

        Args:
            key: public key of RSA.

        Raises:
            TokenRefused: it is another's.
        """
        from cryptography.exceptions import InvalidSignature

        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        scheme = {"RS256": padding.PKCS1v15(), "PS256": pss}.get(str(self.header.get("alg")))
        if scheme is None:
            raise TokenRefused(f"its algorithm is {self.header.get('alg')!r}")
        try:
            key.verify(self.signature, self.signed, scheme, hashes.SHA256())
        except InvalidSignature:
            raise TokenRefused("its signature is not good") from None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
