"""Runs one `airflow` command after the other in this process: Airflow takes seconds to come up, and hardly any after.

Each line of standard input is a JSON list, the arguments of a command. Behind its output stands a line that begins with
`ENDED`, and has its exit code.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

# A record separator, which no log has.
ENDED = "\x1e"


def _run(arguments: list[str]) -> int:
    from airflow.__main__ import main

    sys.argv = ["airflow", *arguments]
    try:
        main()  # type: ignore[no-untyped-call]
    except SystemExit as left:
        if isinstance(left.code, int) or left.code is None:
            return left.code or 0
        sys.stderr.write(f"{left.code}\n")
        return 1
    except Exception:  # noqa: BLE001 - as the end of a command's process would, it is told and ends this one only
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    # This directory, whose modules are none of Airflow's business.
    del sys.path[0]
    for line in sys.stdin:
        code = _run(json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        # Not by `print`: what a command does to standard output is its own affair.
        os.write(1, f"{ENDED}{code}\n".encode())
