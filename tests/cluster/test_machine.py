"""A machine that cannot run the clusters is told what it lacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from . import build, machine
from .__main__ import main
from .errors import NotPossibleHereError


def test_an_old_go_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "go"
    compiler.write_text("#!/bin/sh\necho go1.19.8\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(NotPossibleHereError, match=f"Go 1.24 or newer; {compiler} is go1.19.8"):
        machine.go()


@pytest.mark.parametrize("kept_off", [True, False], ids=["policy of the machine", "no policy"])
def test_packages_start_no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_off: bool) -> None:
    policy = tmp_path / "policy-rc.d"
    if kept_off:
        policy.write_text("the machine's own")
    monkeypatch.setattr(machine, "_POLICY", policy)
    with machine.services_kept_off():
        written = policy.read_text()
    assert written == ("the machine's own" if kept_off else "#!/bin/sh\nexit 101\n")
    assert policy.exists() == kept_off


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_without_root_the_exit_code_tells_so(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main([command]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("clusters: not possible here: The test clusters need root on Linux")


def test_the_version_is_the_one_that_is_built() -> None:
    assert build.version() == "v1.34.4"
    assert build.key() == build.key()
