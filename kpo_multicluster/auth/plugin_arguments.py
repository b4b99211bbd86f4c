"""What the known exec plugins have in common: arguments, environment, and what to say when one cannot be served."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from kpo_multicluster.auth.access import Token
from kpo_multicluster.auth.exec_plugin import ExecPlugin
from kpo_multicluster.errors import ConfigurationError, CredentialError, ExecPluginError

Fetcher = Callable[[], Token]


class NotServedError(Exception):
    """Why a plugin has to be run after all; ends with what to do if it cannot be."""


@dataclass(frozen=True)
class Grammar:
    """What arguments a plugin is understood with.

    Attributes:
        command: the words before the flags.
        values: flags that take a value.
        switches: flags that take none, or `=true`.
        short: short flags, and the long ones they stand for.
        environment: variables that the kubeconfig may set for it.
    """

    command: tuple[str, ...]
    values: Collection[str]
    switches: Collection[str] = ()
    short: Mapping[str, str] = field(default_factory=dict)
    environment: Collection[str] = ()

    def read(self, plugin: ExecPlugin) -> dict[str, str]:
        """The flags of a plugin and their values; of a switch "true" or "false".

        Raises:
            NotServedError: one of them, the command or a variable is not understood.
        """
        strange = sorted(set(plugin.env) - set(self.environment))
        if strange:
            raise NotServedError(f"its environment variable {strange[0]} is not understood")
        words, found = self._parse(plugin.args)
        if tuple(words) != self.command:
            raise NotServedError(f"it is not called as '{' '.join((Path(plugin.command).name, *self.command))}'")
        return found

    def _parse(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        words, found, rest = list[str](), dict[str, str](), list(arguments)
        while rest:
            argument = rest.pop(0)
            if not argument.startswith("-"):
                words.append(argument)
                continue
            flag, equals, value = argument.partition("=")
            flag = self.short.get(flag, flag)
            if flag in self.switches:
                found[flag] = "false" if value.lower() in ("false", "0") else "true"
            elif flag in self.values and (equals or rest):
                found[flag] = value if equals else rest.pop(0)
            else:
                raise NotServedError(f"its argument {flag} is not understood")
        return words, found


def environment_of(plugin: ExecPlugin) -> dict[str, str]:
    """The environment that the plugin would run in."""
    return {**os.environ, **plugin.env}


def serve(plugin: ExecPlugin, make: Callable[[], Fetcher], *, needs: str, extra: str) -> Fetcher | None:
    """What stands in for a plugin, or None where the plugin itself is to be run.

    Args:
        plugin: the plugin.
        make: reads its arguments and gives what makes tokens; raises `NotServedError`; does not block.
        needs: the module that takes.
        extra: that brings the module.
    """
    reason = ""
    try:
        if _installed(needs):
            return _told_apart(plugin, make())
        reason = f"serving it in process needs an optional dependency: pip install 'kpo-multicluster[{extra}]'"
    except NotServedError as error:
        reason = f"it cannot be served in process, as {error}"
    if _runnable(plugin):
        return None
    message = (
        f"The exec plugin {plugin.command!r} ({plugin.source}) is not on the PATH of this process, and {reason}. Do "
        "one of the two: install the plugin, or change what stands in the way."
    )

    def absent() -> Token:
        raise ExecPluginError(message)

    return absent


def _told_apart(plugin: ExecPlugin, fetch: Fetcher) -> Fetcher:
    def served() -> Token:
        try:
            return fetch()
        except (CredentialError, ConfigurationError) as error:
            raise ExecPluginError(
                f"The exec plugin {plugin.command!r} ({plugin.source}), served in process, failed. {error}"
            ) from None

    return served


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _runnable(plugin: ExecPlugin) -> bool:
    if "/" in plugin.command:
        return (plugin.directory / plugin.command).exists()
    return shutil.which(plugin.command) is not None
