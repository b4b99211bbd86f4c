"""Bearer tokens that are kept somewhere and replaced there by others: files and environment variables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from kpo_multicluster.auth.access import Token, TokenSource
from kpo_multicluster.errors import CredentialError

REREAD_SECONDS = 60.0
"""How long client-go trusts what it read from a token file."""


def checked_bearer(text: str, *, source: str) -> str:
    """The token in `text`, without the white space around it.

    Args:
        text: what was found.
        source: where, for messages.

    Raises:
        CredentialError: nothing is left, or it cannot stand in an HTTP header.
    """
    token = text.strip()
    if not token:
        raise CredentialError(f"The token from {source} is empty: put one there.", final=True)
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise CredentialError(
            f"What {source} holds is not a bearer token: it has white space or control characters inside. "
            "Put the token alone there, on one line.",
            final=True,
        )
    return token


def file_tokens(path: str | Path, *, source: str, clock: Callable[[], float] = time.time) -> TokenSource:
    """Tokens of a file that is rewritten as they rotate: read again each minute, and when one is refused.

    Args:
        path: of the file.
        source: what the file is, for messages, such as "tokenFile of user 'gpu'".
        clock: Unix time in seconds.
    """

    def fetch() -> Token:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not text"
        else:
            return Token(checked_bearer(text, source=f"{path} ({source})"), clock() + REREAD_SECONDS)
        raise CredentialError(
            f"The token file {path} ({source}) cannot be read: {cause}. Check that it is mounted in this process."
        )

    return TokenSource(fetch, source=source, clock=clock)


def environment_tokens(name: str, *, source: str) -> TokenSource:
    """The token in an environment variable: read again when it is refused.

    Args:
        name: of the variable.
        source: what asked for it, for messages.
    """
    last: str | None = None

    def fetch() -> Token:
        nonlocal last
        value = os.environ.get(name)
        if value is None:
            raise CredentialError(
                f"The environment variable {name} ({source}) is not set in this process: set it, on the triggerer too "
                "if the task defers.",
                final=True,
            )
        token = checked_bearer(value, source=f"the environment variable {name} ({source})")
        if token == last:
            raise CredentialError(
                f"The API server refused the token from the environment variable {name} ({source}), and it still holds "
                "the same. It has probably expired or been revoked: replace it there.",
                final=True,
            )
        last = token
        return Token(token)

    return TokenSource(fetch, source=source)
