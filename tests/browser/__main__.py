"""Sees to it that there is a browser: `python -m tests.browser`."""

from __future__ import annotations

import shutil
import sys

from tests.cluster import machine
from tests.cluster.errors import NotPossibleHereError


def main() -> None:
    """Installs Debian's chromium if there is none; where that cannot be, the tests are skipped."""
    if shutil.which("chromium") is not None or shutil.which("apt-get") is None:
        return
    try:
        machine.install(["chromium"], _say)
    except NotPossibleHereError as error:
        _say(f"no browser: {error}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
