"""The command behind `make test-matrix`: the suite on the lowest supported versions, on the highest, and between."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
UV = REPOSITORY / ".uv/bin/uv"
_CLOSING_LINE = re.compile(r"=+ .* in [0-9.]+s.*=")
_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


@dataclass(frozen=True)
class Row:
    """One set of versions.

    Attributes:
        name: also of its environment, `.venv-matrix-NAME-PYTHON`.
        pythons: the first of these that the machine has is taken.
        lock: the file in requirements/ that has the versions of everything else.
    """

    name: str
    pythons: tuple[str, ...]
    lock: str


ROWS = (
    Row("low", ("3.10",), "matrix-low.txt"),
    Row("middle", ("3.12", "3.11", "3.10"), "matrix-middle.txt"),
    Row("high", ("3.14", "3.13", "3.12", "3.11", "3.10"), "dev.txt"),
)


def interpreter(version: str) -> Path | None:
    """A Python of that version: what uv finds, pyenv has, or the PATH leads to; none is downloaded."""
    for path in _candidates(version):
        # pyenv has a file for every version on the PATH, most of which only say that they are not selected.
        found = subprocess.run([path, "-c", _VERSION], capture_output=True, text=True, check=False)
        if found.stdout.strip() == version:
            return path
    return None


def _candidates(version: str) -> Iterator[Path]:
    command: list[str | Path] = [UV, "python", "find", "--no-python-downloads", "--system", version]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode == 0:
        yield Path(found.stdout.strip())
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)
    if path := shutil.which(f"python{version}"):
        yield Path(path)


def install(row: Row, python: Path, environment: Path) -> None:
    """Makes the row's environment, or brings it up to date.

    Raises:
        subprocess.CalledProcessError: uv could not, and has said why.
    """
    into: list[str | Path] = ["--quiet", "--python", environment / "bin/python"]
    for command in (
        ["venv", "--quiet", "--allow-existing", "--python", python, environment],
        ["pip", "sync", *into, f"requirements/{row.lock}"],
        ["pip", "install", *into, "--no-deps", "--editable", "."],
    ):
        subprocess.run([UV, *command], cwd=REPOSITORY, check=True)


def versions(environment: Path) -> str:
    """What the row is about, as installed."""
    code = "from importlib.metadata import version; print(version('apache-airflow'), version('kubernetes'))"
    printed = subprocess.run([environment / "bin/python", "-c", code], capture_output=True, text=True, check=True)
    airflow, kubernetes = printed.stdout.split()
    return f"Airflow {airflow}, kubernetes {kubernetes}"


def run(row: Row, arguments: Sequence[str]) -> tuple[bool, str]:
    """Runs one row; says whether it went well, and how it ended."""
    for version in row.pythons:
        if python := interpreter(version):
            break
    else:
        return True, f"skipped: neither uv, pyenv nor the PATH has a Python {' or '.join(row.pythons)}"
    environment = REPOSITORY / f".venv-matrix-{row.name}-{version}"
    try:
        install(row, python, environment)
    except subprocess.CalledProcessError as error:
        return False, f"Python {version}: not installed: exit code {error.returncode} of {error.cmd}"
    title = f"Python {version}, {versions(environment)}"
    print(f"matrix: {row.name}: {title}", flush=True)
    closing = ""
    started = time.monotonic()
    command: list[str | Path] = [environment / "bin/pytest", *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as suite:
        for line in suite.stdout or ():
            print(line, end="", flush=True)
            closing = line.strip() if _CLOSING_LINE.match(line) else closing
    return (
        suite.returncode == 0,
        f"{title}: exit code {suite.returncode} after {time.monotonic() - started:.0f} s\n  {closing}",
    )


def main(arguments: Sequence[str]) -> int:
    """Runs every row with those arguments for pytest; the exit code is 1 if one of them failed."""
    results = {row.name: run(row, arguments) for row in ROWS}
    for name, (_, end) in results.items():
        print(f"matrix: {name}: {end}")
    return 0 if all(well for well, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
