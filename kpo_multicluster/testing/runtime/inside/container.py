"""The first process of a container: it makes the container around itself, then becomes the command.

What it is to do comes as JSON (`runtime.spec` describes it). What fails is told on the status pipe, which closes by
itself when the command has taken over.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
import signal
import socket
import stat
import termios
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from . import devices, rootfs, syscalls

_LAST_CAPABILITY: Final = 63
# The capabilities that container runtimes leave to root, by capability(7).
_KEPT_CAPABILITIES: Final = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
_EXEC_FAILED: Final = 1


class StartError(Exception):
    """The container or its command cannot be started.

    Args:
        text: in the words of runc.
        number: errno.
    """

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


def become_container(spec: Mapping[str, Any], tree: rootfs.HostTree, scratch: str, *, all_ids: bool) -> NoReturn:
    """Builds the container of this process, the first of its PID namespace, and runs its command."""
    os.setsid()
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS)
    root = _build_root(spec, tree, scratch)
    syscalls.pivot_root(root, root)
    os.chdir("/")
    syscalls.unmount("/")
    socket.sethostname(spec["hostname"])
    _take_terminal(spec)
    become_command(spec, all_ids=all_ids)


def become_command(spec: Mapping[str, Any], *, all_ids: bool) -> NoReturn:
    """Runs a command in this process, whose namespaces are set: as the right user, in its directory."""
    drop_capabilities()
    _become_user(spec, all_ids=all_ids)
    _enter_directory(spec["cwd"])
    argv: list[str] = spec["argv"]
    path = find_executable(argv[0], spec["env"].get("PATH", ""))
    os.umask(0o022)
    _reset_signals()
    try:
        os.execve(path, argv, spec["env"])
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise StartError(f"exec {path}: argument list too long", error.errno) from error
        # As with a runtime, which is gone by now: all it leaves is a line on stderr and an exit code.
        os.write(2, f"exec {path}: {_text(error)}\n".encode())
        os._exit(_EXEC_FAILED)


def _reset_signals() -> None:
    # What Python ignores, and what whoever started the server does: a shell its background jobs' SIGINT, nohup SIGHUP.
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def find_executable(name: str, search_path: str) -> str:
    """Finds a command as runtimes do: with a slash it is a path, without one it is searched for.

    Raises:
        StartError: in the words of runc.
    """
    if "/" in name:
        try:
            is_directory = stat.S_ISDIR(os.stat(name).st_mode)
        except OSError as error:
            raise StartError(f"exec: {quoted(name)}: stat {name}: {_text(error)}", error.errno or 0) from error
        if is_directory or not os.access(name, os.X_OK):
            raise StartError(f"exec: {quoted(name)}: permission denied", errno.EACCES)
        return name
    for directory in search_path.split(":"):
        candidate = f"{directory or '.'}/{name}"
        if name and os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise StartError(f"exec: {quoted(name)}: executable file not found in $PATH", errno.ENOENT)


def quoted(text: str) -> str:
    """A string in double quotes, as Go's `%q` writes it."""
    return json.dumps(text, ensure_ascii=False)


def drop_capabilities() -> None:
    """Leaves this process and its children no more than what runtimes leave to root."""
    for number in range(_LAST_CAPABILITY + 1):
        if number not in _KEPT_CAPABILITIES:
            try:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return
                raise


def take_terminal() -> None:
    """Makes the terminal on stdin the one that controls this session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _take_terminal(spec: Mapping[str, Any]) -> None:
    if spec["tty"]:
        take_terminal()


def _build_root(spec: Mapping[str, Any], tree: rootfs.HostTree, scratch: str) -> str:
    syscalls.mount("tmpfs", scratch, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755")
    root, layers, volumes = f"{scratch}/root", f"{scratch}/layers", f"{scratch}/volumes"
    for directory in (root, layers, volumes):
        os.mkdir(directory)
    syscalls.bind(root, root)
    sources = [_volume_source(mount, f"{volumes}/{number}") for number, mount in enumerate(spec["mounts"])]
    targets = [rootfs.resolve(mount["target"]) for mount in spec["mounts"]]
    points = [rootfs.Point(target, os.path.isfile(source)) for target, source in zip(targets, sources, strict=True)]
    files = {_resolve_file(path): content for path, content in spec["files"].items()}
    points += [rootfs.Point(path, is_file=True) for path in files]
    copies = [(item["source"], rootfs.resolve(item["target"])) for item in spec["copies"]]
    points += [rootfs.Point(target, os.path.isfile(source)) for source, target in copies]
    working_directory = rootfs.resolve(spec["cwd"])
    if not os.path.exists(working_directory):
        points.append(rootfs.Point(working_directory, is_file=False))
    mounted = [point for point in points if not rootfs.is_within(point.path, ("/dev", "/proc", "/sys"))]
    rootfs.build(root, layers, tree, mounted)
    devices.mount_dev(f"{root}/dev")
    devices.mount_sys(f"{root}/sys")
    devices.mount_proc(f"{root}/proc")
    devices.guard_proc(f"{root}/proc")
    for number, (source, target) in enumerate(copies):
        _copy(source, root + target, f"{layers}/copy-{number}", overlay=tree.overlay)
    for number, (path, content) in enumerate(files.items()):
        _write(f"{volumes}/file-{number}", content.encode(), 0o644)
        _mount_volume(f"{volumes}/file-{number}", root + path, read_only=False)
    # Shorter paths first: a volume may be mounted inside another.
    for target, source, mount in sorted(zip(targets, sources, spec["mounts"], strict=True), key=lambda item: item[0]):
        _mount_volume(source, root + target, read_only=mount["read_only"])
    return root


def _resolve_file(path: str) -> str:
    directory, name = os.path.split(path)
    return f"{rootfs.resolve(directory).rstrip('/')}/{name}"


def _volume_source(mount: Mapping[str, Any], scratch: str) -> str:
    source = mount["source"]
    if mount["content"] is not None:
        source = scratch
        _write_content(scratch, mount["content"])
    if not mount["sub_path"]:
        return str(source)
    path = f"{source}/{mount['sub_path']}"
    if not os.path.lexists(path):
        os.makedirs(path)
    return os.path.realpath(path)


def _write_content(directory: str, content: Mapping[str, Any]) -> None:
    # The layout of a kubelet's: files in a directory of a version, reached by links that can be turned in one step.
    version = f"{directory}/..{content['version']}"
    os.makedirs(version)
    os.symlink(os.path.basename(version), f"{directory}/..data")
    for path, (data, mode) in content["files"].items():
        os.makedirs(os.path.dirname(f"{version}/{path}"), exist_ok=True)
        _write(f"{version}/{path}", base64.b64decode(data), mode)
        top = path.split("/", 1)[0]
        if not os.path.lexists(f"{directory}/{top}"):
            os.symlink(f"..data/{top}", f"{directory}/{top}")


def _write(path: str, data: bytes, mode: int) -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def _copy(source: str, target: str, scratch: str, *, overlay: bool) -> None:
    if os.path.isdir(source):
        rootfs.layer(source, target, scratch, [], overlay=overlay)
        return
    with open(source, "rb") as file:
        _write(target, file.read(), os.stat(source).st_mode & 0o777)


def _mount_volume(source: str, target: str, *, read_only: bool) -> None:
    try:
        rootfs.make_point(target, is_file=os.path.isfile(source))
        syscalls.bind(source, target, recursive=True)
        if read_only:
            syscalls.read_only(target)
    except OSError as error:
        text = f"error mounting {quoted(source)} to rootfs at {quoted(target)}: {_text(error)}"
        raise StartError(text, error.errno or 0) from error


def _become_user(spec: Mapping[str, Any], *, all_ids: bool) -> None:
    user, group = spec["uid"], spec["gid"]
    if not user and not group:
        if all_ids:
            os.setgroups(spec["groups"])
        return
    if all_ids:
        os.setgroups(spec["groups"])
        os.setgid(group)
        os.setuid(user)
        return
    if spec["joined"]:
        return
    # One id is all that is ours to give; a user namespace of its own lets the container call it by another number.
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} 0 1"), ("gid_map", f"{group} 0 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(line)


def _enter_directory(path: str) -> None:
    step = f"mkdir {path}"
    try:
        if not os.path.isdir(path):
            os.makedirs(path)
        step = f"chdir to cwd ({quoted(path)}) set in config.json failed"
        os.chdir(path)
    except FileExistsError as error:
        raise StartError(f"error during container init: {step}: not a directory", errno.ENOTDIR) from error
    except OSError as error:
        raise StartError(f"error during container init: {step}: {_text(error)}", error.errno or 0) from error


def _text(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
