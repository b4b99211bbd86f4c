"""Exec plugins of a kubeconfig: commands that print a credential.

Source: "client-go credential plugins" in the Kubernetes documentation; `client.authentication.k8s.io` v1 and v1beta1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from kpo_multicluster.auth.access import Token
from kpo_multicluster.auth.bearer import checked_bearer
from kpo_multicluster.auth.exec_process import Finished, run
from kpo_multicluster.auth.kubeconfig_file import Section
from kpo_multicluster.auth.tls import check_client_certificate
from kpo_multicluster.errors import ConfigurationError, CredentialError, ExecPluginError, KubeconfigError

PLUGIN_TIMEOUT_SECONDS = 60.0
_API_GROUP = "client.authentication.k8s.io"
_API_VERSIONS = (f"{_API_GROUP}/v1", f"{_API_GROUP}/v1beta1")
_STDERR_LIMIT = 1000
_STDERR_READ = 10_000
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_SECRET_NAME = re.compile(
    r"(?:SECRET|TOKEN|PASSWORD|PASSWD|KEY|CREDENTIAL)(?!.*(?:FILE|PATH|DIR|URL|URI)$)", re.IGNORECASE
)
# JWTs, EKS and Google tokens; whatever else is long and has capitals, small letters and digits in it.
_SECRET_SHAPE = re.compile(
    r"eyJ[\w-]+\.[\w.-]+|k8s-aws-v1\.[\w=-]+|ya29\.[\w.-]+"
    r"|(?<![\w/.-])(?=[^A-Z\s]{0,64}[A-Z])(?=[^a-z\s]{0,64}[a-z])(?=[^\d\s]{0,64}\d)[\w+-][\w+/-]{31,}=*"
)


@dataclass(frozen=True)
class ExecPlugin:
    """The `exec` field of a kubeconfig's user.

    Attributes:
        command: as written.
        args: its arguments; they may hold secrets.
        env: what the kubeconfig adds to the command's environment.
        api_version: the `ExecCredential` version that it must answer with.
        source: what it belongs to, for messages.
        directory: of the kubeconfig; a relative command with a slash starts from there.
        cluster: what it is told of the cluster, when it asks for that.
        install_hint: what the kubeconfig says to a user who lacks the command.
        timeout_seconds: until it is killed.
    """

    command: str
    args: tuple[str, ...] = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    api_version: str
    source: str
    directory: Path
    cluster: Mapping[str, Any] | None = field(default=None, repr=False)
    install_hint: str | None = None
    timeout_seconds: float = PLUGIN_TIMEOUT_SECONDS


# Makes tokens as the plugin would, or is None where it does not understand the plugin's arguments.
InProcessPlugin = Callable[[ExecPlugin], Callable[[], Token] | None]
_in_process: dict[str, InProcessPlugin] = {}


def serve_in_process(command: str, plugin: InProcessPlugin) -> None:
    """Has `plugin` stand in for an exec plugin, which then need not be installed.

    Args:
        command: the plugin's file name, such as `kubelogin`; wherever the kubeconfig says it is.
        plugin: gives what makes tokens as the command would with these arguments; None where it cannot, and then the
            command is run.
    """
    _in_process[command] = plugin


def token_fetcher(
    plugin: ExecPlugin,
    *,
    known: Mapping[str, InProcessPlugin] | None = None,
    clock: Callable[[], float] = time.time,
) -> Callable[[], Token]:
    """What makes a token by this plugin: in process where its command is known, else by running it.

    Args:
        plugin: the plugin.
        known: stand-ins by command, besides those of `serve_in_process`, which go first.
        clock: Unix time in seconds; tells whether an answer has already expired.
    """
    name = Path(plugin.command).name
    stand_in = _in_process.get(name) or (known or {}).get(name)
    fetch = stand_in(plugin) if stand_in is not None else None
    return fetch if fetch is not None else lambda: _fetch(plugin, clock)


def read_plugin(section: Section, *, cluster: Mapping[str, Any], timeout_seconds: float) -> ExecPlugin:
    """The plugin that the `exec` field of a user describes.

    Args:
        section: the field.
        cluster: what to tell a plugin that asks about the cluster.
        timeout_seconds: until it is killed.

    Raises:
        KubeconfigError: it is incomplete, of a version that is no longer spoken, or needs a person at a terminal.
    """
    command, api_version = section.text("command"), section.text("apiVersion")
    if command is None:
        raise KubeconfigError(f"The {section.where} names no command: give it the plugin's.")
    if api_version not in _API_VERSIONS:
        raise KubeconfigError(
            f"The {section.where} has the apiVersion {api_version!r}; {' and '.join(_API_VERSIONS)} are spoken. Update "
            f"{command} and have it write its entry again."
        )
    if section.text("interactiveMode") == "Always":
        raise KubeconfigError(
            f"The {section.where} has interactiveMode: Always, and no one is there to answer {command}. Use a login "
            "that needs no person, such as a service principal or a workload identity."
        )
    env = {}
    for item in section.sections("env"):
        name = item.text("name")
        if name is None or "=" in name:
            raise KubeconfigError(
                f"The {section.where} adds an environment variable without a proper name: correct it."
            )
        env[name] = item.text("value") or ""
    return ExecPlugin(
        command=command,
        args=tuple(section.texts("args")),
        env=env,
        api_version=api_version,
        source=section.where,
        directory=section.directory,
        cluster=cluster if section.flag("provideClusterInfo") else None,
        install_hint=section.text("installHint"),
        timeout_seconds=timeout_seconds,
    )


def _fetch(plugin: ExecPlugin, clock: Callable[[], float]) -> Token:
    spec: dict[str, Any] = {"interactive": False}
    if plugin.cluster is not None:
        spec["cluster"] = plugin.cluster
    info = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    env = {**os.environ, **plugin.env, "KUBERNETES_EXEC_INFO": json.dumps(info, default=str)}
    path = _executable(plugin)
    fault = ""
    try:
        finished = run([path, *plugin.args], env=env, timeout_seconds=plugin.timeout_seconds)
    except OSError as error:
        fault = f"cannot be run: {error.strerror or type(error).__name__}"
        if isinstance(error, FileNotFoundError):
            fault += f" (the interpreter that {path} names in its first line)"
    except ValueError:
        fault = "cannot be run: an argument or environment variable has a null character"
    if fault:
        raise ExecPluginError(f"{_subject(plugin)} {fault}.{_hint(plugin)}")
    if finished.stopped is not None:
        raise ExecPluginError(f"{_subject(plugin)} {finished.stopped} and was killed.{_stderr(plugin, finished)}")
    if finished.exit_code != 0:
        raise ExecPluginError(f"{_subject(plugin)} {_ending(finished)}.{_stderr(plugin, finished)}")
    return _token(plugin, finished, clock())


def _executable(plugin: ExecPlugin) -> str:
    if "/" in plugin.command:
        path = plugin.directory / plugin.command
        if path.exists():
            return str(path)
        raise ExecPluginError(f"{_subject(plugin)} does not exist at {path}.{_hint(plugin)}", final=True)
    found = shutil.which(plugin.command)
    if found is None:
        raise ExecPluginError(
            f"{_subject(plugin)} is not on the PATH of this process ({os.environ.get('PATH', '')}): install it, on the "
            f"triggerer too if the task defers.{_hint(plugin)}",
            final=True,
        )
    return found


def _token(plugin: ExecPlugin, finished: Finished, now: float) -> Token:
    try:
        answer = json.loads(finished.stdout)
    except ValueError:  # its message would be chained, and quotes what was printed
        answer = None
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential" or not isinstance(status, dict):
        raise ExecPluginError(
            f"{_subject(plugin)} ended well but printed no ExecCredential with a status.{_stderr(plugin, finished)}"
        )
    if answer.get("apiVersion") != plugin.api_version:
        raise ExecPluginError(
            f"{_subject(plugin)} answered with another apiVersion than the kubeconfig's, {plugin.api_version}: correct "
            "the kubeconfig, or update the plugin.",
            final=True,
        )
    value, certificate, key = (
        _answered(plugin, status, name) for name in ("token", "clientCertificateData", "clientKeyData")
    )
    if (certificate is None) != (key is None) or (value is None and certificate is None):
        raise ExecPluginError(
            f"{_subject(plugin)} answered with neither a token nor a client certificate and its key."
            f"{_stderr(plugin, finished)}"
        )
    try:
        if certificate is not None:
            check_client_certificate(certificate, key or "", plugin.source)
        bearer = "" if value is None else checked_bearer(value, source=plugin.source)
    except (ConfigurationError, CredentialError) as error:
        raise ExecPluginError(f"{_subject(plugin)} gave an unusable answer. {error}") from None
    return Token(bearer, _expiry(plugin, status, now), certificate, key)


def _answered(plugin: ExecPlugin, status: Mapping[str, Any], name: str) -> str | None:
    value = status.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise ExecPluginError(f"{_subject(plugin)} answered with a status.{name} that is not text.")


def _expiry(plugin: ExecPlugin, status: Mapping[str, Any], now: float) -> float | None:
    written = _answered(plugin, status, "expirationTimestamp")
    if written is None:
        return None
    match = _TIMESTAMP.fullmatch(written)
    if match is None:
        raise ExecPluginError(f"{_subject(plugin)} answered with an expirationTimestamp that is not of RFC 3339.")
    date, clock_time, fraction, offset = match.groups()
    zone = "+00:00" if offset in "Zz" else offset
    try:
        expires_at = datetime.fromisoformat(f"{date}T{clock_time}{zone}").timestamp() + float(f"0{fraction or '.0'}")
    except ValueError:
        raise ExecPluginError(f"{_subject(plugin)} answered with an expirationTimestamp that does not exist.") from None
    if expires_at <= now:
        here = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds")
        raise ExecPluginError(
            f"{_subject(plugin)} answered with a credential that expired at {written}; the clock here says {here}. "
            "Log in again where the plugin keeps its login, or correct the clock."
        )
    return expires_at


def _subject(plugin: ExecPlugin) -> str:
    return f"The exec plugin {plugin.command!r} ({plugin.source})"


def _hint(plugin: ExecPlugin) -> str:
    return f" The kubeconfig says: {plugin.install_hint.strip()}" if plugin.install_hint else ""


def _ending(finished: Finished) -> str:
    return (
        f"failed with exit code {finished.exit_code}"
        if finished.exit_code > 0
        else f"died of signal {-finished.exit_code}"
    )


def _stderr(plugin: ExecPlugin, finished: Finished) -> str:
    text = finished.stderr.decode(errors="replace").strip()
    if not text:
        return " It wrote nothing to stderr."
    if len(text) > _STDERR_READ:
        # From the next white space on: half a secret would not be known for one.
        text = "".join(re.split(r"(\s)", text[-_STDERR_READ:], maxsplit=1)[1:])
    for secret in _secrets(plugin, finished):
        text = text.replace(secret, "***")
    text = _SECRET_SHAPE.sub("***", text)
    return " Its stderr ends with: " + (text if len(text) <= _STDERR_LIMIT else "..." + text[-_STDERR_LIMIT:])


def _secrets(plugin: ExecPlugin, finished: Finished) -> list[str]:
    found = [value for name, value in plugin.env.items() if _SECRET_NAME.search(name)]
    for flag, following in zip(plugin.args, (*plugin.args[1:], ""), strict=False):
        name, _, value = flag.partition("=")
        if name.startswith("-") and _SECRET_NAME.search(name):
            found.append(value or following)
    # What a failed plugin printed may be cut short, so that JSON cannot be relied on.
    found += re.findall(r'"(?:token|clientKeyData)"\s*:\s*"([^"]+)', finished.stdout.decode(errors="replace"))
    return [secret for secret in found if secret]
