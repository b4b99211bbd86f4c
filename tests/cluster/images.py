"""The container images, put together from programs of this machine and of its Debian mirror.

They carry the names of well-known images because tasks name those. `alpine` and `busybox` are Debian's static busybox
(and a pgrep, which Alpine's has and Debian's lacks), `python:3.11-slim` is a small Debian 12 with its Python.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import build
from .errors import ClusterError, NotPossibleHereError
from .layout import IMAGES, write_whole
from .registry import ANY_TAG, MANIFEST_TYPE, find

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
_GROUP = "root:x:0:\nnogroup:x:65534:\n"
_DEBIAN_SUITE = "bookworm"
_DEBIAN_PACKAGES = "python3,ca-certificates"
_NOT_WANTED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache", "var/lib/apt/lists")
_PAUSE_IMAGE = "pause"

PAUSE_REFERENCE = f"kpo.test/{_PAUSE_IMAGE}:1"


def prepare(say: Callable[[str], None]) -> None:
    """Make the images that are missing or no longer as they should be."""
    # The recipe of the first three is this file and the programs in them; the fourth takes a minute, and changes with
    # its package list only.
    recipe = hashlib.sha256(Path(__file__).read_bytes() + build.key().encode()).hexdigest()[:16]
    if not _is_made("alpine", recipe):
        _make_busybox_images(recipe)
    debian = f"{_DEBIAN_SUITE} {_DEBIAN_PACKAGES}"
    if not _is_made("python", debian):
        say("assembling the image python:3.11-slim from Debian packages: about a minute the first time")
        _make_python_image(debian)


def add(
    name: str,
    tags: Sequence[str],
    layers: Sequence[bytes],
    config: Mapping[str, Any],
    *,
    base: tuple[str, str] | None = None,
    recipe: str = "",
    store: Path = IMAGES,
) -> None:
    """Put an image into the store; a registry that runs has it from then on.

    Args:
        name: the last part of the image's name.
        tags: the tags it answers to; `ANY_TAG` for all that are not listed.
        layers: uncompressed tar archives, the lowest first; see `archive` and `archive_tree`.
        config: what the image says of its containers: `Cmd`, `Entrypoint`, `Env`, `User`, `WorkingDir`.
        base: name and tag of an image in the store whose layers come below these.
        recipe: what the image was made from, to know when to make it again.
        store: the directory that the registry serves.
    """
    descriptors = [_store(store, layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers]
    if base is not None:
        descriptors = [*_layers(store, *base), *descriptors]
    image = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Env": [_PATH], **config},
        "rootfs": {"type": "layers", "diff_ids": [descriptor["digest"] for descriptor in descriptors]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _store(store, json.dumps(image).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": descriptors,
        "annotations": {"recipe": recipe},
    }
    digest = _store(store, json.dumps(manifest).encode(), MANIFEST_TYPE)["digest"]
    with (store / "index.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        index = _read_index(store)
        index[name] = dict.fromkeys(tags, digest)
        write_whole(store / "index.json", json.dumps(index, indent=1))


def archive(entries: Mapping[str, bytes | str]) -> bytes:
    """A layer of executable files (bytes), symbolic links (text), and directories (a name that ends in a slash)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in entries.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            member.mode = 0o755
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
                member.mode = 0o1777 if name == "tmp/" else 0o755
                tar.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def archive_tree(root: Path, without: Sequence[str] = ()) -> bytes:
    """A layer of a directory tree, with owners and modes as they are there."""

    def keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        inside = member.name.removeprefix("./")
        left_out = any(inside.startswith(f"{prefix}/") for prefix in without)
        return None if left_out or member.isdev() else member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(root, arcname=".", filter=keep)
    return buffer.getvalue()


def _make_busybox_images(recipe: str) -> None:
    program = shutil.which("busybox")
    if program is None:
        raise ClusterError("busybox was installed but is not on PATH")
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    entries: dict[str, bytes | str] = {
        f"{name}/": b"" for name in ("bin", "etc", "root", "tmp", "usr", "usr/bin", "var")
    }
    entries |= {f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"}
    entries |= {"bin/busybox": Path(program).read_bytes(), "usr/bin/env": "/bin/env"}
    entries |= {"etc/passwd": _PASSWD.encode(), "etc/group": _GROUP.encode()}
    base = archive(entries)
    pgrep = archive({"usr/bin/pgrep": (build.directory() / "pgrep").read_bytes()})
    pause = archive({"pause": (build.directory() / "pause").read_bytes()})
    add("busybox", [ANY_TAG], [base], {"Cmd": ["sh"]}, recipe=recipe)
    add(_PAUSE_IMAGE, ["1"], [pause], {"Entrypoint": ["/pause"], "User": "65535:65535"}, recipe=recipe)
    add("alpine", [ANY_TAG], [base, pgrep], {"Cmd": ["/bin/sh"]}, recipe=recipe)


def _make_python_image(recipe: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=IMAGES, prefix="debian-") as directory:
        root = Path(directory) / "root"
        options = ["--variant=minbase", f"--include={_DEBIAN_PACKAGES}"]
        # In a mount namespace of its own: what debootstrap mounts goes with it, however it ends.
        done = subprocess.run(
            ["unshare", "--mount", "debootstrap", *options, _DEBIAN_SUITE, str(root), _debian_mirror()],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = "\n".join(done.stdout.strip().splitlines()[-5:])
            raise NotPossibleHereError(f"debootstrap could not put Debian {_DEBIAN_SUITE} together:\n{said}")
        for name in ("python", "python3"):
            (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
        layer = archive_tree(root, _NOT_WANTED)
    add("python", ["3.11-slim", "3.11", "3.11-slim-bookworm"], [layer], {"Cmd": ["python3"]}, recipe=recipe)


def _debian_mirror() -> str:
    """The mirror that this machine's apt uses."""
    lines = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    for line in lines:
        uri, _, rest = line.partition(" ")
        if re.fullmatch(r"https?://\S+", uri) and rest == "Debian main":
            return uri
    raise NotPossibleHereError("apt knows no Debian mirror (component main) to take the python image's packages from.")


def _is_made(name: str, recipe: str) -> bool:
    digests = list(_read_index(IMAGES).get(name, {}).values())
    if not digests:
        return False
    manifest = json.loads(_blob(IMAGES, digests[0]).read_text())
    return bool(manifest["annotations"]["recipe"] == recipe)


def _read_index(store: Path) -> dict[str, dict[str, str]]:
    try:
        index: dict[str, dict[str, str]] = json.loads((store / "index.json").read_text())
    except FileNotFoundError:
        return {}
    return index


def _layers(store: Path, name: str, tag: str) -> list[dict[str, Any]]:
    digest = find(store, name, tag)
    if digest is None:
        raise ClusterError(f"There is no image {name}:{tag} to build on.")
    found: list[dict[str, Any]] = json.loads(_blob(store, digest).read_text())["layers"]
    return found


def _blob(store: Path, digest: str) -> Path:
    return store / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _store(store: Path, content: bytes, media_type: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = _blob(store, digest)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        partial.rename(path)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}
