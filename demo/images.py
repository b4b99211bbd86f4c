"""The examples' images for the real clusters, put together without Docker."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kpo_multicluster.testing import ImageSource
from tests.cluster import images, machine
from tests.cluster.errors import ClusterError

_PYTHON = ("python", "3.11-slim")
_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)


def make(examples: Path, directory: Path) -> Mapping[str, str]:
    """Makes the images that can be made here; gives the variables by which the examples are told of them.

    Args:
        examples: their directory.
        directory: for what a compiler writes.
    """
    source = ImageSource.from_directory(examples / "multiply")
    settings = {"WorkingDir": source.working_dir, "Cmd": list(source.command)}
    files = {path: Path(origin).read_bytes() for origin, path in source.copies}
    made = {
        "MULTIPLY_IMAGE": _add("multiply-by-23", _PYTHON, files, settings),
        "PYTHON_IMAGE": ":".join(_PYTHON),
    }
    if shutil.which("ghc"):
        program = _compile(examples / "haskell" / "Main.hs", directory / "haskell")
        files = {"/usr/local/bin/haskell_example": program.read_bytes(), **_libraries(program)}
        command = {"Cmd": ["haskell_example"]}
        made["HASKELL_IMAGE"] = _add("haskell-hello", ("busybox", "latest"), files, command)
    return made


def install_ghc(say: Callable[[str], None]) -> None:
    """Installs Debian's Haskell compiler if there is none.

    Raises:
        NotPossibleHereError: it cannot be had.
    """
    if shutil.which("ghc") is None:
        machine.install(["ghc"], say)


def _add(name: str, base: tuple[str, str], files: Mapping[str, bytes], settings: Mapping[str, Any]) -> str:
    entries: dict[str, bytes | str] = {}
    for path, content in files.items():
        parents = reversed(Path(path.lstrip("/")).parents)
        entries |= {f"{parent}/": b"" for parent in parents if parent != Path()}
        entries[path.lstrip("/")] = content
    layer = images.archive(entries)
    # Whoever has pulled a tag keeps what it stood for: another content has another.
    tag = hashlib.sha256(layer).hexdigest()[:12]
    images.add(name, [tag], [layer], settings, base=base)
    return f"{name}:{tag}"


def _compile(source: Path, directory: Path) -> Path:
    directory.mkdir(parents=True)
    program = directory / "haskell_example"
    done = subprocess.run(
        ["ghc", "-O", "-Wall", "-outputdir", str(directory), "-o", str(program), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"ghc cannot compile {source}:\n{(done.stdout + done.stderr).strip()}")
    return program


def _libraries(program: Path) -> dict[str, bytes]:
    """The shared libraries that a program needs, at the paths where it looks for them; the image has no others."""
    told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    return {path: Path(path).read_bytes() for path in _LIBRARY.findall(told)}
