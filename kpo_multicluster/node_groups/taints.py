"""Taints of node groups, and the three ways in which clouds write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kpo_multicluster.errors import ConfigurationError

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_AS_ENUM = {"NoSchedule": "NO_SCHEDULE", "PreferNoSchedule": "PREFER_NO_SCHEDULE", "NoExecute": "NO_EXECUTE"}
_FROM_ENUM = {value: key for key, value in _AS_ENUM.items()}
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_TEXT = re.compile(r"(?P<key>[^=:]+)(?:=(?P<value>[^=:]*))?:(?P<effect>\w+)")


def is_label_key(text: str) -> bool:
    """Whether Kubernetes takes a text as the key of a label or taint."""
    prefix, slash, name = text.rpartition("/")
    return bool(_NAME.fullmatch(name)) and (bool(_PREFIX.fullmatch(prefix)) if slash else True)


def is_label_value(text: str) -> bool:
    """Whether Kubernetes takes a text as the value of a label or taint."""
    return text == "" or bool(_NAME.fullmatch(text))


@dataclass(frozen=True)
class Taint:
    """What keeps pods off a node that do not tolerate it.

    Attributes:
        key: of it.
        value: of it; may be empty.
        effect: `NoSchedule`, `PreferNoSchedule` or `NoExecute`.

    Raises:
        ConfigurationError: Kubernetes would not take it.
    """

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def __post_init__(self) -> None:
        if self.effect not in EFFECTS:
            raise ConfigurationError(
                f"The taint {self.key!r} has the effect {self.effect!r}; it must be one of {', '.join(EFFECTS)}."
            )
        if not is_label_key(self.key) or not is_label_value(self.value):
            raise ConfigurationError(
                f"The taint {self.key!r} with the value {self.value!r} is not one that Kubernetes takes: key and value "
                "are letters, digits, '-', '_' and '.', the key with an optional prefix such as 'nvidia.com/'."
            )

    def __str__(self) -> str:
        """As kubectl writes it."""
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"

    @classmethod
    def parse(cls, given: Any) -> Taint:
        """A taint from one, from kubectl's `key=value:Effect`, or from a mapping of key, value and effect.

        Raises:
            ConfigurationError: it is none of these.
        """
        if isinstance(given, Taint):
            return given
        if isinstance(given, str):
            match = _TEXT.fullmatch(given)
            if match is not None:
                return cls(match["key"], match["value"] or "", match["effect"])
        elif isinstance(given, Mapping) and "key" in given and set(given) <= {"key", "value", "effect"}:
            effect = str(given.get("effect", "NoSchedule"))
            return cls(str(given["key"]), str(given.get("value") or ""), _FROM_ENUM.get(effect, effect))
        raise ConfigurationError(
            f"{given!r} is no taint: write it as 'key=value:NoSchedule', or as a mapping of key, value and effect."
        )

    def toleration(self) -> dict[str, str]:
        """What a pod needs to tolerate it, as in a pod's spec."""
        matched = {"operator": "Equal", "value": self.value} if self.value else {"operator": "Exists"}
        return {"key": self.key, **matched, "effect": self.effect}

    # -- the clouds' ways ----------------------------------------------------------------------------------------------

    def to_object(self) -> dict[str, str]:
        """As EKS and GKE write it: `{"key": ..., "value": ..., "effect": "NO_SCHEDULE"}`."""
        return {"key": self.key, "value": self.value, "effect": _AS_ENUM[self.effect]}

    @classmethod
    def from_object(cls, given: Mapping[str, Any]) -> Taint:
        """From what EKS or GKE wrote."""
        effect = str(given.get("effect", ""))
        return cls(str(given.get("key", "")), str(given.get("value") or ""), _FROM_ENUM.get(effect, effect))

    def to_text(self) -> str:
        """As AKS writes it: `key=value:NoSchedule`, with the `=` also where there is no value."""
        return f"{self.key}={self.value}:{self.effect}"
