"""The file system of a container: the host's directories, copy-on-write, with mount points where a pod wants them.

Every host directory becomes the lower layer of an overlay whose upper layer is memory of this mount namespace: a
container sees what the host has, writes what it likes, and nothing of it reaches the host or outlives the container.
Mount points are made in the upper layer, so they may lie below any existing directory, whoever owns that. Where the
kernel refuses an overlay, read-only binds take its place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final, NamedTuple

from . import syscalls

# Not the host's: made anew in every container.
FRESH: Final = ("/dev", "/proc", "/run", "/sys", "/tmp")
_SKIPPED: Final = ("/lost+found",)
# What a command may need of the fresh directories: name resolution, and the programs of NixOS.
_SHOWN: Final = ("/etc/resolv.conf", "/run/current-system", "/run/wrappers")
# In a user namespace a directory with mounts inside cannot be an overlay's lower layer: it is taken apart, so deep.
_SPLIT_DEPTH: Final = 3
_SPLIT_ENTRIES: Final = 48
_UNSAFE_IN_OPTIONS: Final = frozenset(":,\\")


class Point(NamedTuple):
    """A place at which something will be mounted or written: an absolute path in the container."""

    path: str
    is_file: bool


class HostTree(NamedTuple):
    """What of the host a container sees.

    Attributes:
        layers: directories that become overlays.
        bound: directories and files shown read-only with the mounts inside them.
        directories: directories made empty, to hold the others, with their modes.
        links: symbolic links and where they lead.
        overlay: whether overlays are to be tried at all.
    """

    layers: list[str]
    bound: list[str]
    directories: list[tuple[str, int]]
    links: list[tuple[str, str]]
    overlay: bool


def survey(extra: Iterable[str], *, overlay: bool) -> HostTree:
    """Decides once how each top-level directory of the host is shown.

    Args:
        extra: paths to show although they lie in a directory that is not (an interpreter installed below /tmp).
        overlay: False shows everything by read-only binds, as where the kernel refuses overlays.
    """
    tree = HostTree([], [], [], [], overlay)
    mounts = _mount_points()
    for name in sorted(os.listdir("/")):
        path = f"/{name}"
        if path not in FRESH and path not in _SKIPPED and (os.path.islink(path) or os.path.isdir(path)):
            _expand(tree, path, mounts, 1)
    tree.directories.append(("/tmp", 0o1777))
    tree.directories.append(("/run", 0o755))
    for path in (*_SHOWN, *extra):
        real = path if path.startswith("/run/") else os.path.realpath(path)
        if is_within(real, FRESH) and os.path.lexists(real):
            _expand(tree, real, mounts, _SPLIT_DEPTH)
    return tree


def is_within(path: str, directories: Iterable[str]) -> bool:
    """Whether a path is one of these directories, or lies below one."""
    return any(path == directory or path.startswith(f"{directory}/") for directory in directories)


def resolve(path: str) -> str:
    """A mount path with the symbolic links of the host's tree followed, as a runtime follows those of an image."""
    path = os.path.normpath(f"/{path}")
    return path if is_within(path, FRESH) else os.path.realpath(path)


def build(root: str, scratch: str, tree: HostTree, points: list[Point]) -> None:
    """Puts the tree together below `root`, with every mount point in place.

    Args:
        root: an empty directory of a tmpfs.
        scratch: another one, for the upper layers.
        tree: from `survey`.
        points: where mounts will go, resolved.
    """
    for path, mode in tree.directories:
        os.makedirs(root + path, exist_ok=True)
        os.chmod(root + path, mode)
    for path, target in tree.links:
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(target, root + path)
    for number, path in enumerate(tree.layers):
        layer(path, root + path, f"{scratch}/{number}", _below(path, points), overlay=tree.overlay)
    for path in tree.bound:
        _bind_tree(path, root + path, _missing(_below(path, points)))
    for point in points:
        make_point(root + point.path, is_file=point.is_file)


def layer(lower: str, target: str, scratch: str, points: list[Point], *, overlay: bool) -> None:
    """Shows `lower` at `target`, copy-on-write.

    Args:
        lower: a directory of the host.
        target: where it is shown.
        scratch: a path in a tmpfs for the upper layer, which does not exist yet.
        points: mount points to be made in it, absolute as if `lower` were their root's.
        overlay: False binds it read-only.
    """
    os.makedirs(target, exist_ok=True)
    upper = f"{scratch}/upper"
    os.makedirs(f"{scratch}/work")
    os.mkdir(upper)
    _copy_mode(lower, upper)
    if not os.access(lower, os.R_OK | os.X_OK):
        # Unreadable to the user who runs this: an empty directory of the container's own, as in an image.
        _copy_mode(lower, target)
        return
    for point in points:
        _make_in_upper(lower, upper, point)
    if overlay and _mount_overlay(lower, upper, f"{scratch}/work", target):
        return
    _bind_tree(lower, target, _missing(points))


def make_point(path: str, *, is_file: bool) -> None:
    """Makes a mount point, unless it exists."""
    if os.path.lexists(path):
        return
    os.makedirs(path if not is_file else os.path.dirname(path), exist_ok=True)
    if is_file:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _mount_overlay(lower: str, upper: str, work: str, target: str) -> bool:
    if not _UNSAFE_IN_OPTIONS.isdisjoint(lower):
        return False
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    # Without privileges its notes go into user attributes; kernels before 5.11 do not know the option.
    for extra in (",userxattr", ""):
        try:
            syscalls.mount("overlay", target, "overlay", 0, options + extra)
        except OSError:
            continue
        return True
    return False


def _mount_points() -> list[str]:
    with open("/proc/self/mountinfo", "rb") as mounts:
        # Spaces and the like are written as octal escapes: proc(5).
        return [os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1")) for line in mounts]


def _expand(tree: HostTree, path: str, mounts: list[str], depth: int) -> None:
    if os.path.islink(path):
        tree.links.append((path, os.readlink(path)))
        return
    if not os.path.isdir(path):
        if stat.S_ISREG(os.lstat(path).st_mode):
            tree.bound.append(path)
        return
    if not any(mount.startswith(f"{path}/") for mount in mounts):
        tree.layers.append(path)
        return
    try:
        names = os.listdir(path)
    except OSError:
        names = []
    if depth >= _SPLIT_DEPTH or not 0 < len(names) <= _SPLIT_ENTRIES:
        tree.bound.append(path)
        return
    tree.directories.append((path, stat.S_IMODE(os.stat(path).st_mode)))
    for name in names:
        _expand(tree, f"{path}/{name}", mounts, depth + 1)


def _below(path: str, points: list[Point]) -> list[Point]:
    return [point for point in points if point.path.startswith(f"{path}/")]


def _missing(points: list[Point]) -> list[Point]:
    return [point for point in points if not (os.path.isfile if point.is_file else os.path.isdir)(point.path)]


def _make_in_upper(lower: str, upper: str, point: Point) -> None:
    parts = point.path[len(lower) :].strip("/").split("/")
    for part in parts[:-1] if point.is_file else parts:
        lower, upper = f"{lower}/{part}", f"{upper}/{part}"
        if not os.path.isdir(upper):
            os.mkdir(upper)
            _copy_mode(lower, upper)
    if point.is_file:
        make_point(f"{upper}/{parts[-1]}", is_file=True)


def _copy_mode(source: str, target: str) -> None:
    try:
        mode = os.stat(source).st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode):
        os.chmod(target, stat.S_IMODE(mode))


def _bind_tree(source: str, target: str, points: list[Point]) -> None:
    """Binds a tree read-only; the directories on the way to a mount point are made anew, and so can hold it."""
    if os.path.isfile(source):
        make_point(target, is_file=True)
    else:
        os.makedirs(target, exist_ok=True)
    if not points:
        syscalls.bind(source, target, recursive=True)
        syscalls.read_only(target)
        return
    _copy_mode(source, target)
    for entry in os.scandir(source):
        if any(point.path == entry.path and point.is_file for point in points):
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), f"{target}/{entry.name}")
        elif entry.is_dir() or entry.is_file():
            _bind_tree(entry.path, f"{target}/{entry.name}", _below(entry.path, points))
