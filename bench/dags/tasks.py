"""The DAG file of the benchmark: one DAG with one task for each arm and case.

Where a task differs from one that a user would write, it is only in what measures it.
"""

from __future__ import annotations

import json
import os

from airflow.sdk import DAG

from bench import marks
from bench.cases import CASES
from bench.settings import SETTINGS_VARIABLE, Settings

_settings = Settings(**json.loads(os.environ[SETTINGS_VARIABLE]))

DAGS: dict[str, DAG] = {}
for _arm, _path in _settings.operators.items():
    _operator = marks.import_operator(_path)
    for _case in CASES:
        with DAG(_settings.dag_id(_arm, _case.name), schedule=None) as _dag:
            _operator(
                task_id=_case.name,
                name=_case.name.replace("_", "-"),
                namespace=_settings.namespace,
                image=_case.image,
                cmds=list(_case.command),
                config_file=_settings.kubeconfigs[_arm],
                in_cluster=False,
                do_xcom_push=_case.xcom,
                pre_execute=marks.begin,
                post_execute=marks.end,
            )
        DAGS[_dag.dag_id] = _dag
        globals()[_dag.dag_id] = _dag
