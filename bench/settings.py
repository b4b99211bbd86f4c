"""What a process of the benchmark is told through its environment."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

SETTINGS_VARIABLE = "KPO_BENCH_SETTINGS"


@dataclass(frozen=True)
class Settings:
    """What its tasks are.

    Attributes:
        operators: of each arm, as `MODULE:CLASS`.
        kubeconfigs: of each arm, whose user no other arm has.
        namespace: of the pods.
    """

    operators: dict[str, str]
    kubeconfigs: dict[str, str]
    namespace: str

    @staticmethod
    def dag_id(arm: str, case: str) -> str:
        """Of the DAG whose only task runs a case."""
        return f"{arm}_{case}"

    def environment(self) -> dict[str, str]:
        """The variable that hands it on."""
        return {SETTINGS_VARIABLE: json.dumps(asdict(self))}
