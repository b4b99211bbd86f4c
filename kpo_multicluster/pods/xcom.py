"""The result of a run: the names of the upstream protocol."""

from __future__ import annotations

from typing import Final

MOUNT_PATH: Final = "/airflow/xcom"
RESULT_FILE: Final = f"{MOUNT_PATH}/return.json"
SIDECAR_NAME: Final = "airflow-xcom-sidecar"
SIDECAR_COMMAND: Final = 'trap "exit 0" INT; while true; do sleep 1; done;'
EMPTY_RESULT: Final = "__airflow_xcom_result_empty__"
