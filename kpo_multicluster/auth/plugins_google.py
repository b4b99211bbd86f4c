"""`gke-gcloud-auth-plugin`, in process.

Source: the plugin's flags, in kubernetes/cloud-provider-gcp. It asks gcloud for a token of gcloud's own account, or, if
told so, uses Application Default Credentials. Where gcloud is installed, only it knows that account: the plugin runs.
"""

from __future__ import annotations

import shutil

from kpo_multicluster.auth.access import Token
from kpo_multicluster.auth.exec_plugin import ExecPlugin
from kpo_multicluster.auth.google_credentials import GoogleLogin, GoogleTokens
from kpo_multicluster.auth.google_files import file_reader
from kpo_multicluster.auth.plugin_arguments import Fetcher, Grammar, NotServedError, environment_of, serve

_ADC = "--use_application_default_credentials"
_IMPERSONATE = "--impersonate_service_account"
_IMPERSONATE_VARIABLE = "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT"
_FILE_VARIABLE = "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE"
_GRAMMAR = Grammar(
    command=(),
    values=(_IMPERSONATE, "--project"),
    switches=(_ADC,),
    environment=(
        "GOOGLE_APPLICATION_CREDENTIALS",
        "CLOUDSDK_CONFIG",
        _IMPERSONATE_VARIABLE,
        _FILE_VARIABLE,
        "USE_GKE_GCLOUD_AUTH_PLUGIN",
    ),
)


def gke_gcloud_auth_plugin(plugin: ExecPlugin) -> Fetcher | None:
    """Stands in for `gke-gcloud-auth-plugin`."""

    def make() -> Fetcher:
        flags, env = _GRAMMAR.read(plugin), environment_of(plugin)
        login = GoogleLogin(plugin.source, environ=env)
        if flags.get(_ADC) != "true":
            if shutil.which("gcloud", path=env.get("PATH")) is not None:
                raise NotServedError(
                    f"gcloud is installed here, and its account may be another than this process's; {_ADC} says to use "
                    "the latter"
                )
            file, chain = env.get(_FILE_VARIABLE), flags.get(_IMPERSONATE) or env.get(_IMPERSONATE_VARIABLE)
            accounts = tuple(account.strip() for account in (chain or "").split(",") if account.strip())
            read = file_reader(file, source=plugin.source) if file else None
            login = GoogleLogin(plugin.source, read, accounts, environ=env)
        tokens = GoogleTokens(login)

        def fetch() -> Token:
            return tokens.fetch().token

        return fetch

    return serve(plugin, make, needs="google.auth", extra="gke")
