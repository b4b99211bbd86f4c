"""What is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.cases import HELLO, HELLO_XCOM, LINES, TICKING, Case
from bench.subject import DAG_TEST, SUPERVISED

ROUNDS: Final = 5
_OWN_ENVIRONMENT: Final = ".venv"
_UPSTREAM_ENVIRONMENT: Final = ".venv-upstream"


@dataclass(frozen=True)
class Arm:
    """One way to run a case.

    Attributes:
        name: short, fit for the name of a Kubernetes object.
        title: for people.
        environment: the virtual environment, relative to the repository.
        operator: as `MODULE:CLASS`.
    """

    name: str
    title: str
    environment: str
    operator: str


OURS: Final = Arm("ours", "kpo-multicluster", _OWN_ENVIRONMENT, "kpo_multicluster.operators.pod:KubernetesPodOperator")
UPSTREAM: Final = Arm(
    "upstream",
    "upstream",
    _UPSTREAM_ENVIRONMENT,
    "airflow.providers.cncf.kubernetes.operators.pod:KubernetesPodOperator",
)
BY_HAND: Final = Arm("by-hand", "by hand", _OWN_ENVIRONMENT, "bench.by_hand:HandWrittenPod")
RAW: Final = Arm("raw", "raw stream", _OWN_ENVIRONMENT, "bench.by_hand:RawStream")
UNREAD: Final = Arm("unread", "pod whose log is not read", _OWN_ENVIRONMENT, "bench.by_hand:UnreadPod")
BARE: Final = Arm("bare", "bare logger", _OWN_ENVIRONMENT, "bench.by_hand:BareLogger")
ARMS: Final = (OURS, UPSTREAM, BY_HAND, RAW, UNREAD, BARE)


@dataclass(frozen=True)
class Step:
    """A case that is run in each round, by one arm after the other; those that are compared closely are neighbours.

    Attributes:
        mode: of `bench.subject`.
        case: what the pods do.
        arms: who runs it.
        rounds: how often.
    """

    mode: str
    case: Case
    arms: tuple[Arm, ...]
    rounds: int = ROUNDS


STEPS: Final = (
    Step(DAG_TEST, HELLO, (OURS, BY_HAND)),
    Step(SUPERVISED, HELLO, (OURS, BY_HAND)),
    Step(DAG_TEST, HELLO_XCOM, (OURS, BY_HAND)),
    Step(DAG_TEST, HELLO, (UPSTREAM,)),
    Step(SUPERVISED, HELLO, (UPSTREAM,)),
    Step(DAG_TEST, HELLO_XCOM, (UPSTREAM,)),
    Step(SUPERVISED, LINES, (OURS, UPSTREAM, BARE)),
    Step(DAG_TEST, LINES, (OURS, UPSTREAM, RAW, UNREAD, BARE)),
    # Each run gives as many numbers as there are lines.
    Step(DAG_TEST, TICKING, (OURS, UPSTREAM, BY_HAND), rounds=3),
)
