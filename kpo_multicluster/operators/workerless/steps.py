"""Workerless runs: Airflow starts the task in the triggerer and ends it there (`trigger`), without a worker.

What such a run does is what a deferred one does, by the same steps. Here is what a DAG stores of the task for that, and
how its end survives the triggerer.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kpo_multicluster.airflow_names import BaseOperator, Context, init_arguments
from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError, XComError
from kpo_multicluster.operators.deferral import DeferredSteps
from kpo_multicluster.operators.enums import OnKillAction
from kpo_multicluster.operators.objects import as_pod
from kpo_multicluster.operators.workerless.arguments import named, path_of, read, written
from kpo_multicluster.operators.workerless.checks import check_dag, check_workerless, refuse_mapped
from kpo_multicluster.operators.xcom import push_result
from kpo_multicluster.pods.arguments import PodArguments
from kpo_multicluster.pods.status import termination

if TYPE_CHECKING:
    from airflow.triggers.base import StartTriggerArgs

_VERSION: Final = 1
_TRIGGER: Final = "kpo_multicluster.operators.workerless.trigger.WorkerlessPodTrigger"
# Of all tasks, those arguments that matter to a run; the others are between Airflow and the DAG.
_OF_AIRFLOW: Final = frozenset({"do_xcom_push", "multiple_outputs", "execution_timeout", "retries"})
# Attributes that hold what their arguments were, as arguments of a pod and these types do: they can be set again.
_OF_PODS: Final = frozenset(PodArguments.__dataclass_fields__)
_PLAIN: Final = (bool, int, float, str, ClusterRef)
# Said by others of the same meaning, or by the trigger itself.
_LEFT_OUT: Final = frozenset(
    {
        "deferrable",
        "is_delete_operator_pod",
        "kwargs_to_upstream",
        "on_finish_action",
        "python_callable",
        "resources",
        "start_from_trigger",
        "workerless",
    }
)
END_KEY: Final = "kpo_multicluster_end"
"""XCom by which a triggerer knows that a task had ended already when another one died."""


class _StartArguments:
    """`start_trigger_args` of a task: made when the DAG is stored, as only then all of it is known."""

    def __get__(self, operator: Any, owner: Any = None) -> StartTriggerArgs | None:
        if operator is None:
            return None
        own: StartTriggerArgs | None = vars(operator).get("start_trigger_args")
        return start_of(operator) if own is None and vars(operator).get("workerless") else own

    def __set__(self, operator: Any, value: StartTriggerArgs | None) -> None:
        vars(operator)["start_trigger_args"] = value


class _StartsFromTrigger:
    """`start_from_trigger` of a task: true once it is complete, as Airflow looks at it while it is being made."""

    def __get__(self, operator: Any, owner: Any = None) -> bool:
        if operator is None:
            return False
        of = vars(operator)
        return bool(of.get("start_from_trigger") or (of.get("workerless") and of.get("_BaseOperator__instantiated")))

    def __set__(self, operator: Any, value: bool) -> None:
        vars(operator)["start_from_trigger"] = value


class WorkerlessSteps(DeferredSteps):
    """What `KubernetesPodOperator` does with `workerless=True`."""

    start_trigger_args: Any = _StartArguments()
    start_from_trigger: Any = _StartsFromTrigger()

    workerless: bool
    # Set where a run begins and ends in a triggerer.
    _in_triggerer: bool = False

    # Names of what the task was made with, without what its class has passed on.
    _given_names: frozenset[str]

    def __new__(cls, *_: Any, **kwargs: Any) -> Any:
        """Keeps the names of the arguments: in `__init__`, those that a class passes on look the same."""
        made = super().__new__(cls)
        object.__setattr__(made, "_given_names", frozenset(kwargs))
        return made

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """The beginning of a mapped task.

        Raises:
            ConfigurationError: it is workerless.
        """
        made = super().partial(**kwargs)
        try:
            refuse_mapped(made.kwargs)
        except ConfigurationError:
            # Airflow would warn of it as well.
            made._expand_called = True
            raise
        return made

    def _check_start(self) -> None:
        if self.workerless:
            check_workerless(self, DeferredSteps.execute)

    @classmethod
    def _made_anew_as(cls) -> type:
        """The class that a triggerer makes the task anew of."""
        return cls

    def _made_anew_with(self) -> dict[str, Any]:
        """The arguments that it is called with then."""
        return _arguments(self)

    def stop_in_triggerer(self) -> None:
        """Ends what runs in a thread of the triggerer; the pod goes on."""
        self._killed = True
        if self._session is not None:
            self._session.kill(delete=False)

    def kill_in_triggerer(self, context: Context) -> None:
        """Ends the pod of a task that a user has ended, whether this triggerer has made it or one before."""
        self.on_kill()
        if self._session is None or not self._session.begun:
            self._end_unattended(context, retried=False)
        elif self.on_kill_action is OnKillAction.KEEP_POD:
            self.log.warning("Pod %s goes on running, as on_kill_action is 'keep_pod'.", self._session.where())
        else:
            self.log.info("%s", self._session.killed_error())

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Context | None = None) -> None:
        """Removes or marks the pod, and raises what the run ended with if it failed.

        Raises:
            PodRunError: the run failed.
            AirflowSkipException: with one of `skip_on_exit_code`.
            XComError: multiple outputs are asked for and the result is no object.
        """
        wrong: XComError | None = None
        if self._in_triggerer and context is not None:
            wrong = self._leave_end(context, remote_pod, xcom_result)
        super().cleanup(pod, remote_pod, xcom_result, context)
        if wrong is not None:
            raise wrong

    def _leave_end(self, context: Context, remote_pod: Any, result: Any) -> XComError | None:
        """Leaves result and end of a run while its pod is still there: who comes after it must not run it again."""
        remote, ti = as_pod(remote_pod), context["ti"]
        failure, wrong = self._failure_of(remote), None
        ended = termination(remote, self.base_container_name)
        skipped = ended is not None and ended.exit_code in self.skip_on_exit_code
        if skipped and failure is None:
            result = None
        if failure is None and self.do_xcom_push:
            try:
                push_result(ti, result, multiple_outputs=self.multiple_outputs)
            except XComError as error:
                wrong = error
        state = "skipped" if skipped else "success" if failure is None and wrong is None else "failed"
        keys = ["return_value"] if result is not None else []
        if result is not None and self.multiple_outputs and isinstance(result, Mapping):
            keys += [key for key in result if isinstance(key, str)]
        why = str(wrong or failure or "")
        ti.xcom_push(key=END_KEY, value=End(str(ti.id), state, why, tuple(keys)).to_json())
        return wrong


@dataclass(frozen=True)
class End:
    """How one try of a workerless task has ended.

    Attributes:
        attempt: id of the task instance.
        state: `success`, `failed` or `skipped`.
        why: what failed.
        keys: of the XComs that are its result.
    """

    attempt: str
    state: str
    why: str
    keys: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**vars(self), "keys": list(self.keys)}

    @classmethod
    def from_json(cls, data: Any) -> End | None:
        """An end from what `to_json` wrote; None from anything else."""
        if not isinstance(data, Mapping) or not set(cls.__dataclass_fields__) <= set(data):
            return None
        return cls(str(data["attempt"]), str(data["state"]), str(data["why"]), tuple(data["keys"]))


def start_of(operator: Any) -> StartTriggerArgs:
    """What Airflow starts a workerless task with.

    Args:
        operator: of the task, complete.

    Raises:
        ConfigurationError: an argument cannot be stored, or works in a worker only.
    """
    from airflow.triggers.base import StartTriggerArgs

    operator._check_start()
    arguments = operator._made_anew_with()
    parts = {"arguments": arguments, "defaults": _defaults(operator), "attributes": _attributes(operator, arguments)}
    stored = {part: {name: written(of[name], name) for name in sorted(of)} for part, of in parts.items()}
    check_dag(operator, stored)
    given = {
        "version": _VERSION,
        "class": path_of(operator._made_anew_as()),
        "templates": _templates(operator),
        **stored,
    }
    # As one text: no layer that it passes takes a part of it for something of its own.
    return StartTriggerArgs(
        trigger_cls=_TRIGGER,
        trigger_kwargs={"given": json.dumps(given, sort_keys=True)},
        next_method="trigger_reentry",
    )


def _arguments(operator: Any) -> dict[str, Any]:
    """What the operator's class was called with, as far as it matters to a run; a None may have been meant."""
    return {name: value for name, value in _of_run(operator).items() if name in operator._given_names}


def _defaults(operator: Any) -> dict[str, Any]:
    """What the classes of the operator were given besides, by `default_args` or by one another.

    Those that a class passes on itself it passes on again, and they go before these.
    """
    others = {name: value for name, value in _of_run(operator).items() if name not in operator._given_names}
    return {**others, "on_finish_action": operator.on_finish_action}


def _of_run(operator: Any) -> dict[str, Any]:
    of_airflow = inspect.signature(BaseOperator.__init__).parameters
    return {
        name: value
        for name, value in init_arguments(operator).items()
        if name not in _LEFT_OUT and (name in _OF_AIRFLOW or name not in of_airflow)
    }


def _attributes(operator: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be set on the task: by its class, its DAG or a policy it may have been, since it was made."""
    parameters: dict[str, inspect.Parameter] = {}
    for kind in reversed(type(operator).__mro__):
        own = vars(kind).get("__init__")
        parameters |= inspect.signature(own).parameters if own is not None else {}
    of_airflow = inspect.signature(BaseOperator.__init__).parameters
    names = {name for name in parameters if name in _OF_AIRFLOW or name not in of_airflow} - _LEFT_OUT
    found = {name: getattr(operator, name) for name in names if hasattr(operator, name)}
    return {
        name: value
        for name, value in found.items()
        if (name in _OF_AIRFLOW or name in _OF_PODS or name in operator.template_fields or type(value) in _PLAIN)
        and not (name in arguments and arguments[name] is value)
        and not _is_unset(value, parameters[name].default)
    }


def _is_unset(value: Any, default: Any) -> bool:
    return bool(value == default) or (default is None and value in ([], {}))


def _templates(operator: Any) -> dict[str, Any]:
    """How the task's templates are rendered."""
    dag, own = operator.get_dag(), getattr(operator, "render_template_as_native_obj", None)
    if dag is None:
        return {"native": bool(own)}
    options = dag.jinja_environment_kwargs
    return {
        "native": bool(dag.render_template_as_native_obj if own is None else own),
        "undefined": written(dag.template_undefined, "template_undefined of the DAG"),
        "options": None if options is None else written(options, "jinja_environment_kwargs of the DAG"),
    }


def task_of(given: str, dag_id: str, task_id: str) -> Any:
    """Makes a task anew from what `start_of` has stored.

    Args:
        given: the text.
        dag_id: of its DAG.
        task_id: of the task.

    Raises:
        ConfigurationError: another version of this package wrote it, or it names what is not to be had here.
    """
    from airflow.sdk import DAG

    try:
        stored = json.loads(given)
        version = stored["version"]
    except (ValueError, TypeError, KeyError):
        version = None
    if version != _VERSION:
        raise ConfigurationError(
            f"The task was stored by another version of kpo-multicluster (version {version!r} of its record, "
            f"{_VERSION} is known here). Install the same version where DAGs are parsed and in triggerers."
        )
    templates = stored["templates"]
    how = {"template_undefined": read(templates.get("undefined")), "jinja_environment_kwargs": templates.get("options")}
    dag = DAG(
        dag_id,
        schedule=None,
        render_template_as_native_obj=templates["native"],
        **{name: value for name, value in how.items() if value is not None},
    )
    defaults = {**read(stored["defaults"]), "deferrable": True}
    operator = named(stored["class"])(task_id=task_id, dag=dag, default_args=defaults, **read(stored["arguments"]))
    for name, value in read(stored["attributes"]).items():
        setattr(operator, name, value)
    operator.deferrable = True
    return operator
