"""Tags by which a node group is known as made here, and for which run of a DAG.

They must survive all three clouds, of which GKE takes the least: at most 63 lower-case letters, digits, `-` and `_` a
value. So a run's name is written in base32, in as many tags as it takes; one more tag holds it for people to read.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kpo_multicluster.errors import ConfigurationError

PREFIX = "kpo-multicluster"
_MARK, _MARKED = PREFIX, "node-group"
_CREATED, _EXPIRES, _RUN, _READABLE = (f"{PREFIX}-{name}" for name in ("created", "expires", "run", "for"))
_VALUE_LIMIT = 63
_RUN_LIMIT_BYTES = 600
_NOT_READABLE = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Ownership:
    """That a node group was made here.

    Attributes:
        created_at: Unix time in seconds.
        run: what it was made for, such as `my_dag/manual__2026-01-01T00:00:00+00:00`; None for nothing in particular.
        expires_at: Unix time in seconds after which no one needs it; None when that is not known.
    """

    created_at: float
    run: str | None = None
    expires_at: float | None = None

    def tags(self) -> dict[str, str]:
        """It as tags.

        Raises:
            ConfigurationError: the run's name is too long.
        """
        tags = {_MARK: _MARKED, _CREATED: str(int(self.created_at))}
        if self.expires_at is not None:
            tags[_EXPIRES] = str(int(self.expires_at))
        if self.run is not None:
            name = self.run.encode()
            if not 0 < len(name) <= _RUN_LIMIT_BYTES:
                raise ConfigurationError(
                    f"A run's name has 1 to {_RUN_LIMIT_BYTES} bytes, as a node group's tags hold it; {self.run!r:.80} "
                    f"has {len(name)}."
                )
            text = base64.b32encode(name).decode().rstrip("=").lower()
            pieces = [text[at : at + _VALUE_LIMIT] for at in range(0, len(text), _VALUE_LIMIT)]
            tags |= {f"{_RUN}-{number}": piece for number, piece in enumerate(pieces)}
            tags[_READABLE] = _NOT_READABLE.sub("-", self.run.lower())[:_VALUE_LIMIT].strip("-") or "run"
        return tags

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Ownership | None:
        """From the tags of a node group; None for one that was not made here."""
        if tags.get(_MARK) != _MARKED:
            return None
        try:
            created = float(tags[_CREATED])
            expires = float(tags[_EXPIRES]) if _EXPIRES in tags else None
            return cls(created, _run_of(tags), expires)
        # Tags that someone tampered with: such a group is not ours to remove.
        except (KeyError, ValueError):
            return None


def is_reserved(tag: str) -> bool:
    """Whether a tag is one of those that are written here."""
    return tag == PREFIX or tag.startswith(f"{PREFIX}-")


def _run_of(tags: Mapping[str, str]) -> str | None:
    pieces: list[str] = []
    while (piece := tags.get(f"{_RUN}-{len(pieces)}")) is not None:
        pieces.append(piece)
    if not pieces:
        return None
    text = "".join(pieces).upper()
    return base64.b32decode(text + "=" * (-len(text) % 8)).decode()
