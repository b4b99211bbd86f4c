"""Runs the examples on two embedded clusters or on real ones, or a DAG of the user's on the user's clusters."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from demo.airflow_home import AirflowError, AirflowHome
from demo.clouds import KINDS, Clouds, WithClouds
from demo.clusters import Clusters, StartedClusters, UserClusters
from demo.embedded import EmbeddedClusters
from demo.examples import DIRECTORY, EXAMPLES, REAPING, uses_clouds
from demo.kubernetes import KubernetesClusters
from demo.kubernetes_clouds import CLUSTER, KubernetesClouds
from demo.processes import ending_on_sigterm
from demo.report import table, to_json
from demo.run import Dag, Runner, say, summary
from kpo_multicluster.errors import KpoMulticlusterError
from tests.cluster.errors import ClusterError, NotPossibleHereError

# What changes where an example runs; NAME_TO_GREET, which does not, may be set.
_PARAMETERS = (
    *("POD_NAMESPACE", "HASKELL_IMAGE", "MULTIPLY_IMAGE", "PYTHON_IMAGE"),
    *("ALPHA_CONTEXT", "BETA_CONTEXT", "EKS_KUBECONFIG", "EKS_CONTEXT"),
)


class UsageError(Exception):
    """The demo was asked for something that cannot be done."""


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs the demo; gives back its exit code: 0 only if every task that ran did what it should."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="    note: %(message)s", stream=sys.stdout)
    try:
        with ending_on_sigterm(), ExitStack() as stack:
            options.dag = _dag_file(options.dag)
            _check(options, environ)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kpo-demo-")))
            return _demo(options, scratch / "airflow", _clusters(options, scratch, stack), environ)
    except NotPossibleHereError as error:
        say(f"demo: not possible here: {error}")
        return NotPossibleHereError.EXIT_CODE
    except (AirflowError, ClusterError, KpoMulticlusterError, UsageError) as error:
        say(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        say("demo: interrupted")
        return 130


def _clusters(options: argparse.Namespace, scratch: Path, stack: ExitStack) -> Clusters:
    if options.kubeconfig:
        return UserClusters(_kubeconfig(options.kubeconfig))
    kind: Callable[..., Clouds]
    clusters: StartedClusters
    if options.cluster == "kubernetes":
        kind, clusters = KubernetesClouds, KubernetesClusters(scratch, DIRECTORY, install_ghc=options.install_ghc)
    else:
        kind, clusters = WithClouds, EmbeddedClusters(scratch, DIRECTORY)
    started = stack.enter_context(clusters)
    examples = () if options.dag else _examples(options)
    if not any(map(uses_clouds, examples)):
        return started
    leftover = any(dag.dag_id == REAPING for dag in examples)
    return stack.enter_context(kind(scratch, started, leftover=leftover))


def _examples(options: argparse.Namespace) -> Sequence[Dag]:
    return [dag for dag in EXAMPLES if options.example in (None, dag.dag_id)]


def _demo(options: argparse.Namespace, directory: Path, clusters: Clusters, environ: Mapping[str, str]) -> int:
    if not options.dag:
        environ = {
            name: value for name, value in environ.items() if not name.startswith("AIRFLOW") and name not in _PARAMETERS
        }
    began = time.monotonic()
    say(f"Airflow {version('apache-airflow')}: makes a database in a directory of its own; no server is started")
    with AirflowHome(directory, clusters.environment(environ), options.dag or DIRECTORY) as home:
        home.migrate()
        say(f"    done in {time.monotonic() - began:.1f} s")
        runner = Runner(home, clusters)
        rows = [row for dag in _dags(options, home) for row in runner.run(dag)]
    left = clusters.left()
    say(f"\n{table(rows)}\n\n{summary(rows, left)}")
    if options.json:
        options.json.write_text(to_json(rows))
    # A DAG of the user's may keep its pods on purpose.
    untidy = left and not options.dag
    return 1 if untidy or any(row.ok is False for row in rows) else 0


def _dags(options: argparse.Namespace, home: AirflowHome) -> Sequence[Dag]:
    if options.dag is None:
        moved = dict.fromkeys(KINDS, CLUSTER) if options.cluster == "kubernetes" else {}
        return [dag.moved(moved) for dag in _examples(options)]
    say(f"{options.dag}: looking for DAGs in it")
    return [Dag(dag_id, options.dag) for dag_id in home.dag_ids()]


def _dag_file(path: Path | None) -> Path | None:
    if path is None:
        return None
    path = path.expanduser().absolute()
    if not path.is_file():
        raise UsageError(f"There is no file {path}: DAG= takes the path of a file that defines a DAG.")
    return path


def _check(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    if options.kubeconfig and options.cluster:
        raise UsageError("CLUSTER= and KUBECONFIG= each say where to run: give one of them.")
    if options.kubeconfig and not options.dag:
        raise UsageError("KUBECONFIG= needs DAG=, the path of a DAG of yours: the examples run on embedded clusters.")
    if options.dag and not options.kubeconfig and environ.get("KUBECONFIG"):
        say("The exported KUBECONFIG is not used, only one that is given: make demo DAG=... KUBECONFIG=...")


def _kubeconfig(value: str) -> str:
    paths = [str(Path(path).expanduser().absolute()) for path in value.split(os.pathsep) if path]
    if not any(Path(path).is_file() for path in paths):
        raise UsageError(f"There is no file {' nor '.join(paths)}: KUBECONFIG= takes the path of a kubeconfig.")
    say(f"Your clusters, as {' and '.join(paths)} tells how to reach them")
    return os.pathsep.join(paths)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument(
        "--dag",
        type=Path,
        help="run the DAGs of this file: on the clusters of --kubeconfig or, without it, on the embedded ones",
    )
    parser.add_argument("--kubeconfig", help="of your clusters; several paths are joined as in $KUBECONFIG")
    parser.add_argument(
        "--cluster",
        choices=("embedded", "kubernetes"),
        help="run on embedded clusters, as it does anyway, or on the real ones of `make cluster-up`",
    )
    parser.add_argument("--example", choices=[dag.dag_id for dag in EXAMPLES], help="run this one only")
    parser.add_argument("--install-ghc", action="store_true", help="install the Haskell compiler if there is none")
    parser.add_argument("--json", type=Path, help="write the table to this file as well, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
