"""The examples, in the order in which docs/examples.md leads through them, and where each of their pods must run."""

from __future__ import annotations

from pathlib import Path

from demo.clouds import KINDS
from demo.run import Dag

DIRECTORY = Path(__file__).resolve().parent.parent / "examples"


def _of(dag_id: str, **clusters: str) -> Dag:
    return Dag(dag_id, DIRECTORY / f"{dag_id}.py", clusters)


REAPING = "nightly_reap"

EXAMPLES = (
    _of("basic_pod", hello="alpha"),
    Dag(
        "haskell_hello",
        DIRECTORY / "haskell_hello.py",
        {"say_hello_name_in_haskell": "alpha"},
        needs="runghc",
        needs_name="ghc",
    ),
    _of("xcom", transform="alpha"),
    _of("task_pod", measure="alpha", tell="alpha"),
    _of("deferrable", wait_without_a_worker="alpha"),
    _of(
        "two_clusters",
        alpha_by_cluster="alpha",
        beta_by_cluster="beta",
        alpha_by_config_file="alpha",
        beta_by_context="beta",
        beta_by_connection="beta",
    ),
    *(_of(f"clouds_{kind}", **{f"on_{kind}": kind}) for kind in KINDS),
    _of("eks_node_group", run_by_config_file="eks", run_by_cluster="eks"),
    *(Dag(f"gpu_nodes_{kind}", DIRECTORY / "gpu_nodes.py", {"prepare": "alpha", "train": kind}) for kind in KINDS),
    # Runs no pods: it looks for those of others.
    _of(REAPING),
)


def uses_clouds(dag: Dag) -> bool:
    """Whether an example has to do with clusters of a cloud."""
    return dag.dag_id == REAPING or not {*dag.clusters.values()}.isdisjoint(KINDS)
