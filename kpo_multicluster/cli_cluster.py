"""The cluster that a command line names, and the Airflow whose connections it may name it by."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.doctor.command import SOURCE, part_of


def ref_of(arguments: argparse.Namespace) -> ClusterRef | None:
    """The cluster that the arguments name; None where an Airflow connection names it.

    Raises:
        ConfigurationError: an option does not belong to that kind of cluster, or cannot work.
    """
    from kpo_multicluster.hooks.cluster_part import ref_of_part

    part = part_of(arguments)
    return None if part is None else ref_of_part(part, auth=None, source=SOURCE)


def asks_airflow(ref: ClusterRef) -> bool:
    """Whether a connection has to be looked up for a cluster."""
    return "conn_id" in ref.options


@contextmanager
def airflow_imports() -> Iterator[None]:
    """Within it Airflow is imported and used, as its own command line does it."""
    # Connections are those of its database, too.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    # Airflow writes to standard output as it is imported.
    with redirect_stdout(sys.stderr):
        yield
