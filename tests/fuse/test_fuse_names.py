"""Names, directories, links and extended attributes, through the mount and without."""

# The system calls are what is tested.

from __future__ import annotations

import ctypes
import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest
from conftest import Served
from test_fuse_files import NOBODY, as_nobody, errno_of

pytestmark = pytest.mark.kernel

_libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def renameat2(old: Path, new: Path, flags: int) -> None:
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) < 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def test_create_fails_as_it_should(root: Path) -> None:
    (root / "file").write_bytes(b"")
    (root / "dir").mkdir()
    (root / "dir" / "inner").write_bytes(b"")
    excl = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    assert errno_of(lambda: os.open(root / "file", excl)) == errno.EEXIST
    assert errno_of(lambda: os.mkdir(root / "file")) == errno.EEXIST
    assert errno_of(lambda: os.rmdir(root / "dir")) == errno.ENOTEMPTY
    assert errno_of(lambda: os.rmdir(root / "file")) == errno.ENOTDIR
    assert errno_of(lambda: os.unlink(root / "dir")) == errno.EISDIR
    assert errno_of(lambda: os.unlink(root / "none")) == errno.ENOENT
    assert errno_of(lambda: os.open(root / "file" / "x", os.O_RDONLY)) == errno.ENOTDIR
    assert errno_of(lambda: os.open(root / "dir", os.O_WRONLY)) == errno.EISDIR
    assert errno_of(lambda: os.mkdir(root / ("n" * 256))) == errno.ENAMETOOLONG
    assert errno_of(lambda: os.rename(root / "dir", root / "dir" / "sub")) == errno.EINVAL
    assert errno_of(lambda: os.link(root / "dir", root / "link")) == errno.EPERM
    assert errno_of(lambda: os.symlink("x", root / "file")) == errno.EEXIST


def test_a_missing_name_appears_once_it_is_made(root: Path) -> None:
    # The kernel remembers that a name does not exist.
    for make in (
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("x"),
        lambda path: os.link(root / "source", path),
        lambda path: os.rename(root / "source", path),
    ):
        (root / "source").write_bytes(b"")
        path = root / "new"
        assert not os.path.lexists(path)
        make(path)
        assert os.path.lexists(path)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        assert not os.path.lexists(path)


def test_odd_names(root: Path) -> None:
    names = [b"n" * 255, b"\xff\xfe\n", b" ", b"...", b"-rf", b"a'\"\\$`*", bytes(range(1, 47))]
    for name in names:
        path = os.fsencode(root) + b"/" + name
        with open(path, "wb") as file:
            file.write(name)
        with open(path, "rb") as file:
            assert file.read() == name
    assert sorted(os.listdir(os.fsencode(root))) == sorted(names)


def test_a_directory_of_five_thousand(root: Path) -> None:
    names = {f"é-{number}-" + "x" * (number % 200) for number in range(5_000)}
    for name in names:
        os.mknod(root / name)
    listed = os.listdir(root)
    assert len(listed) == len(names) and set(listed) == names
    with os.scandir(root) as entries:
        assert all(
            entry.is_file(follow_symlinks=False) and entry.stat().st_ino for entry in entries
        )
    dots = subprocess.run(["ls", "-fa", str(root)], capture_output=True, check=True).stdout
    assert dots.split(b"\n").count(b".") == dots.split(b"\n").count(b"..") == 1
    with os.scandir(root) as entries:
        for entry in entries:  # names go while the directory is read
            os.unlink(entry.path)
    assert os.listdir(root) == []


def test_types_in_listings(root: Path) -> None:
    (root / "dir").mkdir()
    (root / "file").write_bytes(b"")
    (root / "link").symlink_to("dir")
    os.mkfifo(root / "pipe")
    with os.scandir(root) as entries:
        kinds = {
            entry.name: (
                entry.is_dir(follow_symlinks=False),
                entry.is_file(follow_symlinks=False),
                entry.is_symlink(),
            )
            for entry in entries
        }
    assert kinds == {
        "dir": (True, False, False),
        "file": (False, True, False),
        "link": (False, False, True),
        "pipe": (False, False, False),
    }


def test_inode_numbers_agree(root: Path) -> None:
    (root / "file").write_bytes(b"")
    os.link(root / "file", root / "again")
    with os.scandir(root) as entries:
        assert {entry.inode() for entry in entries} == {(root / "file").stat().st_ino}


def test_rewinding_shows_new_names(root: Path) -> None:
    fd = os.open(root, os.O_RDONLY)
    assert os.listdir(fd) == []
    (root / "new").write_bytes(b"")
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.listdir(fd) == ["new"]
    os.close(fd)


def test_hard_links_are_one_file(root: Path) -> None:
    (root / "dir").mkdir()
    (root / "a").write_bytes(b"one")
    os.link(root / "a", root / "dir" / "b")
    assert (root / "a").stat().st_nlink == 2
    assert (root / "a").stat().st_ino == (root / "dir" / "b").stat().st_ino
    (root / "dir" / "b").write_bytes(b"changed")
    assert (root / "a").read_bytes() == b"changed"
    os.chmod(root / "a", 0o600)
    assert stat.S_IMODE((root / "dir" / "b").stat().st_mode) == 0o600
    (root / "a").unlink()
    assert (root / "dir" / "b").stat().st_nlink == 1
    assert (root / "dir" / "b").read_bytes() == b"changed"


def test_symbolic_links(root: Path) -> None:
    target = "x" * 4000
    (root / "long").symlink_to(target)
    assert os.readlink(root / "long") == target
    (root / "file").write_bytes(b"there")
    (root / "link").symlink_to("file")
    assert (root / "link").read_bytes() == b"there"
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")
    assert os.readlink(root / "link") == "elsewhere"
    os.chown(root / "link", 12, 34, follow_symlinks=False)
    os.utime(root / "link", ns=(5, 6), follow_symlinks=False)
    status = os.lstat(root / "link")
    assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (12, 34, 6)
    (root / "loop").symlink_to("loop")
    assert errno_of(lambda: (root / "loop").read_bytes()) == errno.ELOOP


def test_rename_moves_and_replaces(root: Path) -> None:
    (root / "d1").mkdir()
    (root / "d2").mkdir()
    (root / "d1" / "file").write_bytes(b"moved")
    (root / "d2" / "file").write_bytes(b"replaced")
    inode = (root / "d1" / "file").stat().st_ino
    os.rename(root / "d1" / "file", root / "d2" / "file")
    assert (root / "d2" / "file").read_bytes() == b"moved"
    assert (root / "d2" / "file").stat().st_ino == inode
    assert os.listdir(root / "d1") == []
    os.rename(root / "d2", root / "d1")  # an empty directory may be replaced
    assert sorted(os.listdir(root)) == ["d1"] and os.listdir(root / "d1") == ["file"]
    (root / "full").mkdir()
    (root / "full" / "x").mkdir()
    assert errno_of(lambda: os.rename(root / "d1", root / "full")) == errno.ENOTEMPTY


def test_rename_flags(root: Path) -> None:
    (root / "a").write_bytes(b"a")
    (root / "dir").mkdir()
    (root / "dir" / "b").write_bytes(b"b")
    noreplace = errno_of(lambda: renameat2(root / "a", root / "dir" / "b", NOREPLACE))
    assert noreplace == errno.EEXIST
    renameat2(root / "a", root / "dir", EXCHANGE)
    assert (root / "dir").read_bytes() == b"a" and (root / "a" / "b").read_bytes() == b"b"
    renameat2(root / "a" / "b", root / "dir", EXCHANGE)
    assert (root / "dir").read_bytes() == b"b" and (root / "a" / "b").read_bytes() == b"a"
    renameat2(root / "dir", root / "moved", WHITEOUT)
    white = (root / "dir").lstat()
    assert stat.S_ISCHR(white.st_mode) and white.st_rdev == 0
    assert (root / "moved").read_bytes() == b"b"
    assert errno_of(lambda: renameat2(root / "none", root / "moved", EXCHANGE)) == errno.ENOENT


def test_directories_nest_move_and_go(root: Path) -> None:
    deep = root.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")
    os.rename(root / "d" / "d", root / "e")
    assert (root / "e").joinpath(*["d"] * 38, "file").read_bytes() == b"deep"
    assert root.stat().st_nlink == 4 and (root / "d").stat().st_nlink == 2
    subprocess.run(["rm", "-rf", str(root / "e"), str(root / "d")], check=True)
    assert os.listdir(root) == []


def test_a_removed_working_directory(root: Path) -> None:
    (root / "dir").mkdir()
    fd = os.open(root / "dir", os.O_RDONLY)
    os.rmdir(root / "dir")
    assert os.fstat(fd).st_nlink == 0
    assert errno_of(lambda: os.mkdir("x", dir_fd=fd)) == errno.ENOENT
    os.close(fd)


def test_extended_attributes(root: Path) -> None:
    file = root / "file"
    file.write_bytes(b"")
    assert errno_of(lambda: os.getxattr(file, "user.none")) == errno.ENODATA
    os.setxattr(file, "user.one", b"\0\1\2" * 300)
    os.setxattr(file, "trusted.two", b"")
    assert os.getxattr(file, "user.one") == b"\0\1\2" * 300
    assert os.getxattr(file, "trusted.two") == b""
    assert sorted(os.listxattr(file)) == ["trusted.two", "user.one"]
    create, replace = os.XATTR_CREATE, os.XATTR_REPLACE
    assert errno_of(lambda: os.setxattr(file, "user.one", b"", create)) == errno.EEXIST
    assert errno_of(lambda: os.setxattr(file, "user.x", b"", replace)) == errno.ENODATA
    os.removexattr(file, "user.one")
    assert errno_of(lambda: os.removexattr(file, "user.one")) == errno.ENODATA
    assert os.listxattr(file) == ["trusted.two"]
    (root / "link").symlink_to("file")
    os.setxattr(root / "link", "trusted.link", b"l", follow_symlinks=False)
    assert os.getxattr(root / "link", "trusted.link", follow_symlinks=False) == b"l"
    assert errno_of(lambda: os.getxattr(file, "trusted.link")) == errno.ENODATA


def test_our_own_attributes_do_not_exist_for_others(served: Served) -> None:
    os.setxattr(served.door, "trusted.safekit", b"secret")
    os.setxattr(served.door, "trusted.seen", b"x")
    assert os.listxattr(served.directory) == ["trusted.seen"]
    for key in ("trusted.safekit", "trusted.safekit.other"):
        assert errno_of(lambda key=key: os.getxattr(served.directory, key)) == errno.ENODATA
        assert errno_of(lambda key=key: os.setxattr(served.directory, key, b"")) == errno.EPERM
        assert errno_of(lambda key=key: os.removexattr(served.directory, key)) == errno.ENODATA
    assert os.getxattr(served.door, "trusted.safekit") == b"secret"


ACL = b"\2\0\0\0" + b"".join(
    tag.to_bytes(2, "little") + permissions.to_bytes(2, "little") + who.to_bytes(4, "little")
    for tag, permissions, who in (
        (0x01, 6, 0xFFFFFFFF),
        (0x02, 6, NOBODY),
        (0x04, 0, 0xFFFFFFFF),
        (0x10, 6, 0xFFFFFFFF),
        (0x20, 0, 0xFFFFFFFF),
    )
)


def test_acls_are_refused_where_they_are_not_enforced(served: Served) -> None:
    file = served.directory / "file"
    file.write_bytes(b"")
    key = "system.posix_acl_access"
    assert errno_of(lambda: os.setxattr(file, key, ACL)) == errno.EOPNOTSUPP
    assert os.listxattr(file) == []


def test_acls_are_enforced_where_they_are_on(served_acl: Served) -> None:
    file = served_acl.directory / "file"
    file.write_bytes(b"acl")
    os.chmod(file, 0o600)
    read = """
try:
    print(open(argv[1]).read())
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    assert as_nobody(read, file) == "EACCES"
    os.setxattr(file, "system.posix_acl_access", ACL)
    assert as_nobody(read, file) == "acl"
    assert os.getxattr(served_acl.door / "file", "system.posix_acl_access") == ACL
    assert stat.S_IMODE(file.stat().st_mode) == 0o660
    os.removexattr(file, "system.posix_acl_access")
    assert as_nobody(read, file) == "EACCES"


def test_a_default_acl_replaces_the_umask(served_acl: Served) -> None:
    os.setxattr(served_acl.directory, "system.posix_acl_default", ACL)
    before = os.umask(0o077)
    try:
        (served_acl.directory / "file").write_bytes(b"")
        (served_acl.directory / "dir").mkdir()
    finally:
        os.umask(before)
    for place in (served_acl.directory, served_acl.door):
        assert stat.S_IMODE((place / "file").stat().st_mode) == 0o660
        assert stat.S_IMODE((place / "dir").stat().st_mode) == 0o660
        assert os.getxattr(place / "file", "system.posix_acl_access") == ACL
        assert os.getxattr(place / "dir", "system.posix_acl_default") == ACL


def test_permissions_hold_for_ordinary_users(root: Path) -> None:
    os.chmod(root, 0o755)
    (root / "secret").write_bytes(b"x")
    os.chmod(root / "secret", 0o600)
    (root / "sticky").mkdir()
    os.chmod(root / "sticky", 0o1777)
    (root / "sticky" / "roots").write_bytes(b"x")
    script = """
os.chdir(argv[1])
def attempt(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        print(errno.errorcode[error.errno])
    else:
        print("ok")
attempt(open, "secret")
attempt(os.mkdir, "dir")
attempt(os.unlink, "secret")
attempt(os.unlink, "sticky/roots")
attempt(os.rename, "sticky/roots", "sticky/mine")
attempt(os.mkdir, "sticky/dir")
attempt(os.rmdir, "sticky/dir")
attempt(os.chmod, "secret", 0o777)
attempt(os.chown, "sticky", 65534, -1)
attempt(os.utime, "secret")
attempt(os.setxattr, "secret", "user.x", b"")
print(os.access("secret", os.R_OK), os.access("sticky", os.W_OK))
"""
    said = as_nobody(script, root).split("\n")
    assert said == ["EACCES"] * 3 + ["EPERM"] * 2 + ["ok"] * 2 + ["EPERM"] * 2 + [
        "EACCES",
        "EACCES",
        "False True",
    ]


def test_set_group_id_directories_pass_their_group_on(root: Path) -> None:
    (root / "shared").mkdir()
    os.chown(root / "shared", 0, 4242)
    os.chmod(root / "shared", 0o2777)
    as_nobody("os.chdir(argv[1])\nopen('file', 'w')\nos.mkdir('dir')", root / "shared")
    assert (root / "shared" / "file").stat().st_gid == 4242
    inner = (root / "shared" / "dir").stat()
    assert inner.st_gid == 4242 and inner.st_mode & stat.S_ISGID
    assert inner.st_uid == NOBODY
