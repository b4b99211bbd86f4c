"""What `EksPodOperator`, `GKEStartPodOperator` and `AksPodOperator` have in common: arguments that name a cluster."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from kpo_multicluster.airflow_names import AirflowNotFoundException, airflow_connection, given_arguments
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.hooks.fields import as_flag
from kpo_multicluster.hooks.kubernetes import KubernetesHook
from kpo_multicluster.operators.checks import check_kind_of
from kpo_multicluster.operators.links import PodConsoleLink
from kpo_multicluster.operators.pod import KubernetesPodOperator
from kpo_multicluster.raised import airflow_errors

_USE_OTHER = "use KubernetesPodOperator for a cluster that is named so"


class CloudPodOperator(KubernetesPodOperator):
    """Runs a pod on a cluster of one cloud, which arguments name that may be templates.

    Args:
        cluster_options: further options of the cluster, under the names that the function of `kpo_multicluster.clouds`
            takes them by.
        on_finish_action: what becomes of the pod; None means `delete_pod`.
    """

    operator_extra_links = (PodConsoleLink(),)

    # The function of kpo_multicluster.clouds that makes the reference, the argument that names the connection, and the
    # id that this argument has where none is given.
    _function: ClassVar[str]
    _conn_id_argument: ClassVar[str]
    _default_conn_id: ClassVar[str]
    # Further options of that function that have an argument of their own, and which.
    _arguments_of_options: ClassVar[Mapping[str, str]]
    # Template fields that say yes or no, and those that go into the cluster's reference.
    _flags: ClassVar[Sequence[str]] = ("in_cluster",)
    _naming: ClassVar[Sequence[str]]

    def __init__(
        self,
        *,
        cluster_options: Mapping[str, Any] | None = None,
        on_finish_action: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(on_finish_action="delete_pod" if on_finish_action is None else on_finish_action, **kwargs)
        self.cluster_options = cluster_options
        self._refuse_other_clusters()
        # What it says of an XCom sidecar is not this cluster's.
        self.kubernetes_conn_id = None

    @abstractmethod
    def _reference(self, conn_id: str | None, options: Mapping[str, Any]) -> ClusterRef:
        """The cluster that the arguments name, as they are by now.

        Args:
            conn_id: whose credentials to use.
            options: further ones, by name.

        Raises:
            ConfigurationError: they cannot be made a cluster of.
        """

    @cached_property
    def hook(self) -> KubernetesHook:
        """For the cluster that the arguments name."""
        with airflow_errors():
            return KubernetesHook(kubernetes_conn_id=None, cluster=self._named(self._known_conn_id()))

    def _check_naming(self) -> None:
        """Refuses what cannot name a cluster, at the end of a front's `__init__`; templates are checked when rendered.

        Raises:
            ConfigurationError: an argument cannot work, or contradicts another.
        """
        check_kind_of("cluster_options", self.cluster_options, (Mapping, str, type(None)), "a mapping of options")
        self._read_flags()
        if not _awaits_rendering([getattr(self, name) for name in (*self._naming, "cluster_options")]):
            ref = self._named(getattr(self, self._conn_id_argument) or None)
            if self.deferrable:
                # Refuses what must not be stored.
                ref.to_json()

    def _named(self, conn_id: str | None) -> ClusterRef:
        options = self.cluster_options or {}
        check_kind_of("cluster_options", options, Mapping, "a mapping of options")
        of_options = {"cluster_name": "cluster_name", "namespace": "namespace", **self._arguments_of_options}
        twice = {name: argument for name, argument in of_options.items() if name in options and getattr(self, argument)}
        if "conn_id" in options:
            twice["conn_id"] = self._conn_id_argument
        if twice:
            raise ConfigurationError(
                f"cluster_options of {self._title} holds {', '.join(twice)}, which has an argument of its own: "
                f"use {' and '.join(twice.values())}."
            )
        # One's own credentials go before those that a connection has by default.
        own = conn_id == self._default_conn_id and bool(set(options) & self._credential_options())
        source = f"the arguments of {self._title}"
        try:
            ref = self._reference(None if own else conn_id, {key: options[key] for key in options})
        except TypeError as error:
            # An unknown option; the message names it.
            raise ConfigurationError(f"cluster_options of {self._title}: {error}.") from None
        except ConfigurationError as error:
            error.args = (str(error).replace(ClusterRef(self._function).source, source),)
            raise
        return ref.with_source(source)

    @staticmethod
    def _credential_options() -> frozenset[str]:
        """Names of the options that say by themselves whose credentials to use."""
        return frozenset()

    @property
    def _title(self) -> str:
        return f"{type(self).__name__} {self.task_id!r}"

    def _known_conn_id(self) -> str | None:
        """The connection's id; None where only the default one is meant and there is none."""
        conn_id: str | None = getattr(self, self._conn_id_argument) or None
        if conn_id != self._default_conn_id:
            return conn_id
        try:
            airflow_connection(conn_id)
        except AirflowNotFoundException:
            self.log.info("There is no connection %r: the credentials are those of this process.", conn_id)
            return None
        return conn_id

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Any, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
        if parent is self:
            with airflow_errors():
                self._read_flags()

    def _read_flags(self) -> None:
        """Takes texts that templates were rendered to for what they say: "False" is not true."""
        for name in self._flags:
            value = getattr(self, name)
            if isinstance(value, str) and not _awaits_rendering(value):
                setattr(self, name, bool(as_flag(value, f"argument {name} of {self._title}")))
        if self.in_cluster is True:
            raise self._refused("in_cluster=True")

    def _refuse_other_clusters(self) -> None:
        given = given_arguments(self)
        for name in ("cluster", "config_file", "cluster_context", "kubernetes_conn_id"):
            if name in given:
                raise self._refused(name)

    def _refused(self, argument: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._title} does not take {argument}: it names its cluster by {', '.join(self._naming)}. Leave it out, "
            f"or {_USE_OTHER}, such as cluster={self._function}(...) of kpo_multicluster.clouds."
        )


def _awaits_rendering(value: Any) -> bool:
    """Whether a value is, or holds at any depth, a template, another task's result, or a function of the context."""
    if isinstance(value, Mapping):
        return any(map(_awaits_rendering, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_awaits_rendering, value))
    if isinstance(value, str):
        return "{" in value
    return callable(value) or callable(getattr(value, "resolve", None))
