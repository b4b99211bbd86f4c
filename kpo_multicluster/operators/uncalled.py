"""Methods of upstream that a run here does not call: they do what they say, or are refused with what to use instead."""

from __future__ import annotations

import os
from typing import Any, ClassVar, NoReturn

from kpo_multicluster.errors import ConfigurationError, ExecError
from kpo_multicluster.operators.objects import as_pod
from kpo_multicluster.operators.workerless.steps import WorkerlessSteps
from kpo_multicluster.raised import airflow_errors, as_airflow
from kpo_multicluster.utils.pod_manager import NO_POD_MANAGER

KUBE_CONFIG_ENV_VAR = "KUBECONFIG"
_QUIT_ISTIO = ("curl", "-fsI", "-X", "POST", "http://localhost:15020/quitquitquit")


class UncalledMethods(WorkerlessSteps):
    """What users may call, or have overridden for upstream."""

    ISTIO_CONTAINER_NAME: ClassVar[str] = "istio-proxy"
    KILL_ISTIO_PROXY_SUCCESS_MSG: ClassVar[str] = "HTTP/1.1 200"
    POST_TERMINATION_TIMEOUT: ClassVar[int] = 120

    _config_dict: dict[str, Any] | None = None

    # -- honoured ------------------------------------------------------------------------------------------------

    def is_istio_enabled(self, pod: Any) -> bool:
        """Whether a pod has the sidecar of Istio, read anew; during `execute()` only.

        The answer makes no difference to a run: its end is that of the base container, whatever sidecars there are.
        """
        if not pod:
            return False
        metadata = as_pod(pod)["metadata"]
        found = self._steps.call(lambda run: run.read(metadata["namespace"], metadata["name"]))
        containers = found["spec"]["containers"] if found is not None else ()
        return any(container["name"] == self.ISTIO_CONTAINER_NAME for container in containers)

    def kill_istio_sidecar(self, pod: Any) -> None:
        """Asks the sidecar of Istio to end; during `execute()` only. No run needs it.

        Raises:
            ExecError: it did not say that it will.
        """
        answer = self._steps.call(lambda run: run.exec(self.ISTIO_CONTAINER_NAME, _QUIT_ISTIO))
        said = answer.stdout.decode(errors="replace")
        self.log.info("Told the sidecar of Istio to end: %s", said)
        if self.KILL_ISTIO_PROXY_SUCCESS_MSG not in said:
            error = f"The sidecar of Istio did not take the request to end (exit code {answer.exit_code}): {said[:200]}"
            raise as_airflow(ExecError(error, exit_code=answer.exit_code))

    def convert_config_file_to_dict(self) -> None:
        """Reads `config_file`, or the file `$KUBECONFIG` names, into `_config_dict`. Nothing here uses it.

        Raises:
            ConfigurationError: it cannot be read.
        """
        import yaml

        path = self.config_file or os.environ.get(KUBE_CONFIG_ENV_VAR)
        self._config_dict = None
        if not path:
            return
        with airflow_errors():
            try:
                with open(path, encoding="utf-8") as file:
                    self._config_dict = yaml.safe_load(file)
            except (OSError, ValueError, yaml.YAMLError) as error:
                # A YAML error quotes the text, which may hold a key.
                raise ConfigurationError(f"Kubeconfig {path} cannot be read: {type(error).__name__}.") from None

    def _refresh_cached_properties(self) -> None:
        """Forgets `hook` and `client`. Credentials need no such thing: they are renewed on the way."""
        for name in ("hook", "client", "_cluster_hook"):
            self.__dict__.pop(name, None)

    # -- refused -------------------------------------------------------------------------------------------------

    @property
    def pod_manager(self) -> NoReturn:
        """Refused; says what takes its place.

        Raises:
            ConfigurationError: always.
        """
        raise as_airflow(ConfigurationError(NO_POD_MANAGER))
