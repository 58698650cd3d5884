"""Each operation, applied on a primary's tree and replayed on a secondary's, gives equal trees."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

import pytest
from replica_trees import Pair, make_pair

from safepy.core.replica.ops import (
    ROOT,
    Bind,
    Fallocate,
    Forget,
    Fsync,
    Identify,
    Link,
    Make,
    RemoveXattr,
    Rename,
    Rmdir,
    SetAttr,
    SetXattr,
    Symlink,
    Tmpfile,
    Unlink,
    Write,
)
from safepy.storage import syscalls
from safepy.storage.backing import Tree

FILE, DIRECTORY = stat.S_IFREG, stat.S_IFDIR


@pytest.fixture
def pair() -> Iterator[Pair]:
    with make_pair() as made:
        yield made
        assert made.difference() == ""


def make(pair: Pair, name: bytes, mode: int = FILE | 0o644, parent: int = ROOT) -> int:
    handle = pair.here.new_handle()
    pair.do(Make(handle, parent, name, mode, 0, 0o022, 0, 0))
    return handle


def kinds_of(tree: Tree) -> dict[bytes, int]:
    """Name and type of each entry, as a listing gives them."""
    listing = tree.open_directory(ROOT)
    kinds: dict[bytes, int] = {}
    position = 0
    while portion := listing.portion(position):
        kinds.update((name, kind) for name, _, kind, _ in portion)
        position = portion[-1][3]
    listing.close()
    assert kinds.pop(b".") == kinds.pop(b"..") == DIRECTORY >> 12
    return kinds


def raises(number: int) -> pytest.RaisesExc[OSError]:
    return pytest.raises(OSError, check=lambda error: error.errno == number)


def test_file_is_made_written_and_read_back(pair: Pair) -> None:
    file = make(pair, b"f")
    assert pair.do(Write(file, 3, b"hello")) == 5
    assert pair.here.read(file, 0, 100) == b"\0\0\0hello"
    assert pair.there.read(file, 0, 100) == b"\0\0\0hello"
    # A read that ends at the end of the file is known to be whole.
    for offset, size in ((0, 8), (0, 4096), (5, 1 << 21), (8, 10), (9000, 10)):
        expected = b"\0\0\0hello"[offset : offset + size]
        assert pair.here.read_cached(file, offset, size) == expected


def test_lookup_gives_one_handle_to_all_names(pair: Pair) -> None:
    file = make(pair, b"f")
    pair.do(Link(file, ROOT, b"g"))
    assert pair.here.lookup(ROOT, b"f")[0] == file
    handle, status = pair.here.lookup(ROOT, b"g")
    assert handle == file
    assert status.st_nlink == 2


def test_every_type_is_made_with_its_owner(pair: Pair) -> None:
    kinds = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR)
    for number, kind in enumerate(kinds):
        handle = pair.here.new_handle()
        rdev = os.makedev(1, 3) if kind == stat.S_IFCHR else 0
        op = Make(handle, ROOT, b"%d" % number, kind | 0o666, rdev, 0o027, 1000, 1001)
        status = pair.do(op)
        assert (status.st_uid, status.st_gid) == (1000, 1001)
        assert status.st_mode == kind | 0o640
        assert pair.here.stat(handle).st_ino == status.st_ino
    assert kinds_of(pair.here) == {b"%d" % n: kind >> 12 for n, kind in enumerate(kinds)}


def test_group_of_a_set_group_id_directory_is_inherited_and_set_id_bits_survive(
    pair: Pair,
) -> None:
    folder = make(pair, b"d", DIRECTORY | 0o755)
    pair.do(SetAttr(folder, gid=77))
    pair.do(SetAttr(folder, mode=0o2755))
    inner = pair.here.new_handle()
    status = pair.do(Make(inner, folder, b"sub", DIRECTORY | 0o755, 0, 0o022, 5, 6))
    assert (status.st_uid, status.st_gid) == (5, 77)
    assert status.st_mode & stat.S_ISGID
    file = pair.here.new_handle()
    status = pair.do(Make(file, folder, b"f", FILE | 0o6755, 0, 0o022, 5, 6))
    assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (77, 0o6755)


def test_default_acl_overrides_the_umask(pair: Pair) -> None:
    folder = make(pair, b"d", DIRECTORY | 0o755)
    tags = ((1, 7, -1), (2, 7, 1234), (4, 5, -1), (16, 7, -1), (32, 0, -1))
    acl = b"\2\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + (who % 2**32).to_bytes(4, "little")
        for tag, bits, who in tags
    )
    pair.do(SetXattr(folder, b"system.posix_acl_default", acl, 0))
    file = make(pair, b"f", FILE | 0o666, folder)
    assert b"system.posix_acl_access" in pair.here.listxattr(file)
    assert stat.S_IMODE(pair.here.stat(file).st_mode) & 0o020


def test_kill_priv_clears_what_an_ordinary_write_clears(pair: Pair) -> None:
    file = make(pair, b"f", FILE | 0o755)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    for kill in (Write(file, 0, b"x", True), SetAttr(file, size=1, kill_priv=True)):
        pair.do(SetAttr(file, mode=0o6755))
        pair.do(SetXattr(file, b"security.capability", capability, 0))
        pair.do(kill)
        assert stat.S_IMODE(pair.here.stat(file).st_mode) == 0o755
        assert b"security.capability" not in pair.here.listxattr(file)
    pair.do(SetAttr(file, mode=0o6745))
    pair.do(Write(file, 0, b"x", True))  # no group execute: that bit is not a privilege
    assert stat.S_IMODE(pair.here.stat(file).st_mode) == 0o2745
    pair.do(SetAttr(file, mode=0o6755))
    pair.do(Write(file, 0, b"x", False))
    assert stat.S_IMODE(pair.here.stat(file).st_mode) == 0o6755


def test_set_xattr_kills_the_group_bit_when_asked(pair: Pair) -> None:
    file = make(pair, b"f", FILE | 0o755)
    pair.do(SetAttr(file, mode=0o2755))
    pair.do(SetXattr(file, b"user.a", b"1", 0, kill_sgid=True))
    assert stat.S_IMODE(pair.here.stat(file).st_mode) == 0o755


def test_attributes_of_every_kind_of_object(pair: Pair) -> None:
    folder, fifo = make(pair, b"d", DIRECTORY | 0o755), make(pair, b"p", stat.S_IFIFO | 0o600)
    file, link = make(pair, b"f"), pair.here.new_handle()
    pair.do(Symlink(link, ROOT, b"l", b"f", 1, 2))
    for handle in (folder, fifo, file, link):
        status = pair.do(SetAttr(handle, uid=10, gid=20, atime_ns=5, mtime_ns=-7_000_000_001))
        assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (10, 20, -7_000_000_001)
        assert status.st_atime_ns == 5
    for handle in (folder, fifo, file):
        assert stat.S_IMODE(pair.do(SetAttr(handle, mode=0o711)).st_mode) == 0o711
        pair.do(SetXattr(handle, b"trusted.t", b"v", 0))
        assert pair.here.getxattr(handle, b"trusted.t") == b"v"
    pair.do(SetXattr(link, b"trusted.t", b"of the link", 0))
    assert pair.here.getxattr(link, b"trusted.t") == b"of the link"
    assert pair.here.getxattr(file, b"trusted.t") == b"v"
    with raises(errno.EOPNOTSUPP):
        pair.do(SetAttr(link, mode=0o777))
    assert stat.S_IMODE(pair.here.stat(file).st_mode) == 0o711
    assert pair.here.readlink(link) == b"f"
    with raises(errno.EINVAL):
        pair.here.readlink(file)
    with raises(errno.EISDIR):
        pair.do(SetAttr(folder, size=0))


def test_a_half_done_set_attr_can_be_repaired(pair: Pair) -> None:
    link = pair.here.new_handle()
    pair.do(Symlink(link, ROOT, b"l", b"t", 0, 0))
    op = SetAttr(link, uid=9, mode=0o700)  # the owner is set, then the mode fails
    with raises(errno.EOPNOTSUPP):
        pair.do(op)
    assert pair.difference()
    for repair in pair.here.repair(op):
        pair.there.apply(repair)


def test_holes_and_ranges(pair: Pair) -> None:
    file = make(pair, b"f")
    pair.do(Write(file, 0, b"a" * 65536))
    pair.do(Write(file, 1 << 20, b"b" * 4096))
    punch = syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE
    pair.do(Fallocate(file, punch, 8192, 16384))
    assert pair.here.lseek(file, 8192, os.SEEK_DATA) == 24576
    pair.do(Fallocate(file, syscalls.FALLOC_ZERO_RANGE, 32768, 4096))
    pair.do(Fallocate(file, syscalls.FALLOC_COLLAPSE_RANGE, 0, 4096))
    pair.do(Fallocate(file, syscalls.FALLOC_INSERT_RANGE, 4096, 8192))
    pair.do(Fallocate(file, 0, 2 << 20, 4096))
    assert pair.here.stat(file).st_size == (2 << 20) + 4096
    op = Fallocate(file, syscalls.FALLOC_PUNCH_HOLE, 0, 1)  # needs KEEP_SIZE
    with raises(errno.EOPNOTSUPP):
        pair.do(op)
    for repair in pair.here.repair(op):
        pair.there.apply(repair)


def test_a_range_that_no_file_can_have_is_no_trouble_for_the_peer(pair: Pair) -> None:
    file = make(pair, b"f")
    pair.do(Write(file, 0, b"a" * 10_000))
    punch = syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE
    for mode in (syscalls.FALLOC_ZERO_RANGE, punch, 0, syscalls.FALLOC_ZERO_RANGE | 1):
        op = Fallocate(file, mode, 1 << 44, 4096)
        with raises(errno.EFBIG):
            pair.do(op)
        for repair in pair.here.repair(op):
            pair.there.apply(repair)


def test_unlinked_file_stays_writable_and_its_number_reused_is_another_file(pair: Pair) -> None:
    file = make(pair, b"f")
    pair.do(Write(file, 0, b"old"))
    pair.do(Unlink(ROOT, b"f"))
    assert pair.here.path_of(file) is None
    other = make(pair, b"f")
    pair.do(Write(file, 3, b"er"))
    pair.do(SetAttr(file, mode=0o600))
    pair.do(Write(other, 0, b"new"))
    assert pair.there.read(file, 0, 10) == b"older"
    assert pair.there.read(other, 0, 10) == b"new"
    pair.do(Forget((file,)))
    for n in range(50):  # ext4 gives the number away soon
        assert pair.here.read(make(pair, b"n%d" % n), 0, 10) == b""
    with raises(errno.ESTALE):
        pair.there.read(file, 0, 1)


def test_another_alias_works_when_the_known_one_goes(pair: Pair) -> None:
    file = make(pair, b"f")
    pair.do(Link(file, ROOT, b"g"))
    pair.do(Unlink(ROOT, b"f"))
    assert pair.here.path_of(file) == b"g"
    pair.do(Write(file, 0, b"x"))
    os.link(pair.here_path / "g", pair.here_path / "unseen")  # a name nobody looked up
    os.link(pair.there_path / "g", pair.there_path / "unseen")
    pair.do(Unlink(ROOT, b"g"))
    assert pair.here.path_of(file) == b"unseen"
    pair.do(Write(file, 1, b"y"))
    assert (pair.there_path / "unseen").read_bytes() == b"xy"


def test_stale_alias_falls_back_to_another(pair: Pair) -> None:
    file = make(pair, b"f")
    pair.do(Link(file, ROOT, b"g"))
    pair.here._objects._close(pair.here._objects.get(file))
    os.rename(pair.here_path / "f", pair.here_path / "moved behind")
    try:
        assert pair.here.read(file, 0, 1) == b""
        assert pair.here.path_of(file) == b"g"
    finally:
        os.rename(pair.here_path / "moved behind", pair.here_path / "f")
        pair.do(SetAttr(ROOT, mtime_ns=0))


def test_rename_of_directories_keeps_what_is_below(pair: Pair) -> None:
    a, b = make(pair, b"a", DIRECTORY | 0o755), make(pair, b"b", DIRECTORY | 0o755)
    sub = make(pair, b"sub", DIRECTORY | 0o755, a)
    file = make(pair, b"f", FILE | 0o644, sub)
    pair.do(Rename(ROOT, b"a", b, b"a2", 0))
    assert pair.here.path_of(file) == b"b/a2/sub/f"
    pair.do(Write(file, 0, b"1"))
    with raises(errno.EINVAL):  # into itself
        pair.do(Rename(ROOT, b"b", sub, b"x", 0))
    assert pair.here.path_of(file) == b"b/a2/sub/f"
    empty = make(pair, b"empty", DIRECTORY | 0o755)
    pair.do(Rename(b, b"a2", ROOT, b"empty", 0))  # over an empty one
    assert pair.here.path_of(file) == b"empty/sub/f"
    assert pair.here.path_of(empty) is None
    assert stat.S_ISDIR(pair.here.stat(empty).st_mode)


def test_rename_over_exchange_noreplace_whiteout(pair: Pair) -> None:
    one, two = make(pair, b"1"), make(pair, b"2")
    pair.do(Write(one, 0, b"one"))
    pair.do(Write(two, 0, b"two"))
    with raises(errno.EEXIST):
        pair.do(Rename(ROOT, b"1", ROOT, b"2", syscalls.RENAME_NOREPLACE))
    pair.do(Rename(ROOT, b"1", ROOT, b"2", syscalls.RENAME_EXCHANGE))
    assert (pair.here.path_of(one), pair.here.path_of(two)) == (b"2", b"1")
    pair.do(Rename(ROOT, b"1", ROOT, b"2", 0))
    assert (pair.here.path_of(one), pair.here.path_of(two)) == (None, b"2")
    pair.do(Write(one, 0, b"ONE"))
    assert pair.there.read(one, 0, 9) == b"ONE"
    pair.do(Rename(ROOT, b"2", ROOT, b"3", syscalls.RENAME_WHITEOUT))
    assert stat.S_ISCHR(pair.here.lookup(ROOT, b"2")[1].st_mode)


def test_rename_between_two_names_of_one_file_changes_nothing(pair: Pair) -> None:
    file = make(pair, b"f")
    pair.do(Link(file, ROOT, b"g"))
    pair.do(Rename(ROOT, b"f", ROOT, b"g", 0))
    assert kinds_of(pair.here).keys() == {b"f", b"g"}
    assert pair.here.known_at(ROOT, b"f") == pair.here.known_at(ROOT, b"g") == file
    assert pair.here.lookup(ROOT, b"f")[0] == file
    pair.do(Unlink(ROOT, b"f"))
    assert pair.here.path_of(file) == b"g"


def test_tmpfile_gets_a_name(pair: Pair) -> None:
    file = pair.here.new_handle()
    status = pair.do(Tmpfile(file, ROOT, 0o600, 0o022, 3, 4))
    assert (status.st_nlink, status.st_uid, status.st_gid) == (0, 3, 4)
    pair.do(Write(file, 0, b"data"))
    assert pair.do(Link(file, ROOT, b"named")).st_nlink == 1
    assert pair.here.lookup(ROOT, b"named")[0] == file
    assert pair.here.path_of(file) == b"named"


def test_nameless_file_can_be_described_to_a_peer_that_never_saw_it(pair: Pair) -> None:
    file = pair.here.new_handle()
    pair.here.apply(Tmpfile(file, ROOT, 0o6640, 0, 3, 4))
    pair.here.apply(Write(file, 300_000, b"z" * 200_000))
    pair.here.apply(SetAttr(file, size=1 << 20))
    pair.here.apply(SetXattr(file, b"user.x", b"y", 0))
    pair.here.apply(SetAttr(file, mtime_ns=123_456_789))
    for op in pair.here.describe_nameless(file):
        pair.there.apply(op)
    pair.do(Link(file, ROOT, b"named"))
    assert (pair.there_path / "named").stat().st_mtime_ns == 123_456_789


def test_bind_names_what_stands_at_a_path(pair: Pair) -> None:
    folder = make(pair, b"d", DIRECTORY | 0o755)
    file = make(pair, b"f", FILE | 0o644, folder)
    pair.do(Forget((file, folder)))
    assert len(pair.there._objects) == 1
    handle = pair.here.lookup(pair.here.lookup(ROOT, b"d")[0], b"f")[0]
    path = pair.here.path_of(handle)
    assert path == b"d/f"
    pair.there.apply(Bind(handle, path))
    pair.do(Write(handle, 0, b"again"))
    pair.there.apply(Forget((handle,)))
    assert len(pair.there._objects) == 1  # nor is the parent kept any longer


def test_bind_follows_no_link_and_refuses_strange_paths(pair: Pair) -> None:
    folder, link = make(pair, b"d", DIRECTORY | 0o755), pair.here.new_handle()
    make(pair, b"f", FILE | 0o644, folder)
    pair.do(Symlink(link, ROOT, b"l", b"d", 0, 0))
    with raises(errno.ENOTDIR):
        pair.there.apply(Bind(99, b"l/f"))
    for path in (b"../x", b"d//f", b"/d", b"d/", b"./d", b"d/\0"):
        with raises(errno.EINVAL):
            pair.there.apply(Bind(99, path))
    for path in (b"x" * 256, b"/".join([b"d"] * 5000), b"d/" * 40000):
        with raises(errno.ENAMETOOLONG):
            pair.there.apply(Bind(99, path))
    pair.there.apply(Bind(99, b"l"))
    assert pair.there.readlink(99) == b"d"


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0b"])
def test_names_are_single_components(pair: Pair, name: bytes) -> None:
    file = make(pair, b"f")
    for op in (
        Make(9, ROOT, name, FILE | 0o644, 0, 0, 0, 0),
        Symlink(9, ROOT, name, b"t", 0, 0),
        Link(file, ROOT, name),
        Unlink(ROOT, name),
        Rmdir(ROOT, name),
        Rename(ROOT, b"f", ROOT, name, 0),
        Rename(ROOT, name, ROOT, b"g", 0),
    ):
        with raises(errno.EINVAL):
            pair.there.apply(op)
    with raises(errno.EINVAL):
        pair.here.lookup(ROOT, name)
    with raises(errno.ENAMETOOLONG):
        pair.there.apply(Unlink(ROOT, b"n" * 256))


def test_reserved_attribute_is_invisible_and_not_writable(pair: Pair) -> None:
    for path in (pair.here_path, pair.there_path):
        os.setxattr(path, "trusted.safekit", b"marker")
    assert pair.here.listxattr(ROOT) == []
    for name in (b"trusted.safekit", b"trusted.safekit.more"):
        with raises(errno.ENODATA):
            pair.here.getxattr(ROOT, name)
        with raises(errno.EPERM):
            pair.do(SetXattr(ROOT, name, b"x", 0))
        with raises(errno.EPERM):
            pair.do(RemoveXattr(ROOT, name))
    pair.do(SetXattr(ROOT, b"user.mine", b"x", 0))
    assert pair.here.listxattr(ROOT) == [b"user.mine"]
    pair.do(RemoveXattr(ROOT, b"user.mine"))


def test_errors_are_those_of_the_file_system(pair: Pair) -> None:
    file = make(pair, b"f")
    cases = {
        Make(pair.here.new_handle(), ROOT, b"f", FILE | 0o644, 0, 0, 0, 0): errno.EEXIST,
        Make(pair.here.new_handle(), file, b"g", FILE | 0o644, 0, 0, 0, 0): errno.ENOTDIR,
        Unlink(ROOT, b"none"): errno.ENOENT,
        Rmdir(ROOT, b"f"): errno.ENOTDIR,
        Write(12345, 0, b"x"): errno.ESTALE,
        Write(ROOT, 0, b"x"): errno.EISDIR,
        RemoveXattr(file, b"user.none"): errno.ENODATA,
        SetXattr(file, b"user.none", b"", os.XATTR_REPLACE): errno.ENODATA,
    }
    for op, number in cases.items():
        with raises(number):
            pair.do(op)


def test_creation_that_cannot_be_owned_leaves_nothing(pair: Pair) -> None:
    for kind in (stat.S_IFREG, stat.S_IFDIR):
        with pytest.raises((OSError, OverflowError)):
            pair.here.apply(Make(9, ROOT, b"x", kind | 0o644, 0, 0, 2**32 + 5, 0))
    assert kinds_of(pair.here) == {}
    pair.do(SetAttr(ROOT, mtime_ns=0))


def test_descriptors_stay_bounded_and_deep_trees_work() -> None:
    with make_pair(open_limit=8) as pair:
        parent = ROOT
        for _ in range(1200):  # deeper than the interpreter's stack
            parent = make(pair, b"d", DIRECTORY | 0o755, parent)
        file = make(pair, b"f", FILE | 0o644, parent)
        others = [make(pair, b"o%d" % n) for n in range(40)]
        for handle in others:
            pair.do(Write(handle, 0, b"x"))
        pair.do(Write(file, 0, b"deep"))
        pair.do(Rename(parent, b"f", ROOT, b"o0", 0))
        pair.do(Rename(ROOT, b"o0", parent, b"f", 0))
        assert pair.here._objects.open_count < 1300
        for handle in others:
            pair.do(Write(handle, 1, b"y"))
        assert pair.here._objects.open_count <= 8 + 1 + 1  # the root, and the nameless o0
        assert pair.there.read(file, 0, 4) == b"deep"


def test_file_without_descriptor_keeps_its_handle_through_a_rename() -> None:
    with make_pair(open_limit=8) as pair:
        files = [make(pair, b"%d" % n) for n in range(30)]
        closed = next(h for h in files if pair.here._objects.get(h).fd < 0)
        name = pair.here.path_of(closed)
        assert name is not None
        pair.do(Rename(ROOT, name, ROOT, b"moved", 0))
        assert pair.here.lookup(ROOT, b"moved")[0] == closed
        pair.do(Write(closed, 0, b"x"))
        assert (pair.there_path / "moved").read_bytes() == b"x"


def test_descriptor_in_use_is_not_the_one_closed() -> None:
    with make_pair(open_limit=16) as pair:
        busy = make(pair, b"busy")
        for n in range(100):
            pair.here.read(busy, 0, 1)
            make(pair, b"%d" % n)
            if n > 20:  # before, there is no past to judge by
                assert pair.here._objects.get(busy).fd >= 0


def test_number_reused_behind_our_back_is_another_file(pair: Pair) -> None:
    old = make(pair, b"f")
    number = pair.here.stat(old).st_ino
    pair.here._objects._close(pair.here._objects.get(old))
    for path in (pair.here_path, pair.there_path):
        os.unlink(path / "f")
    for n in range(50):
        new = make(pair, b"n%d" % n)
        if pair.here.stat(new).st_ino == number:
            break
    else:
        pytest.skip("the file system did not give the number away")
    with raises(errno.ESTALE):
        pair.here.read(old, 0, 1)
    assert pair.here.read(new, 0, 1) == b""


def test_fsync_of_each_kind_succeeds(pair: Pair) -> None:
    file = make(pair, b"f")
    for op in (Fsync(file, True), Fsync(file, False), Fsync(ROOT, False), Fsync(0, False)):
        pair.do(op)
    with raises(errno.EINVAL):
        pair.do(Fsync(make(pair, b"p", stat.S_IFIFO | 0o600), False))


def test_openat2_never_leaves_the_directory(pair: Pair) -> None:
    os.symlink("/etc", pair.here_path / "out")
    os.symlink("/etc", pair.there_path / "out")
    times = os.stat(pair.here_path).st_mtime_ns
    os.utime(pair.there_path, ns=(times, times))
    os.utime(pair.there_path / "out", ns=(0, 0), follow_symlinks=False)
    os.utime(pair.here_path / "out", ns=(0, 0), follow_symlinks=False)
    root = os.open(pair.here_path, os.O_RDONLY)
    try:
        for path, number in ((b"out/passwd", errno.ELOOP), (b"..", errno.EXDEV)):
            with raises(number):
                syscalls.openat2(root, path, os.O_RDONLY)
        os.close(syscalls.openat2(root, b".", os.O_RDONLY))
    finally:
        os.close(root)


IDENT = bytes(range(16))


@pytest.mark.parametrize("kind", [FILE, DIRECTORY])
def test_a_new_object_bears_the_same_id_on_both_nodes(pair: Pair, kind: int) -> None:
    handle = pair.here.new_handle()
    pair.do(Make(handle, ROOT, b"new", kind | 0o400, 0, 0o077, 7, 8, ident=IDENT))
    assert pair.here.ident_of(handle) == pair.there.ident_of(handle) == IDENT
    assert pair.here.listxattr(handle) == []


def test_an_older_object_gets_its_id_once_it_is_asked_for(pair: Pair) -> None:
    handle = make(pair, b"old")
    assert pair.here.ident_of(handle) == b""
    pair.do(Identify(handle, IDENT))
    assert pair.here.ident_of(handle) == pair.there.ident_of(handle) == IDENT


def test_an_unnamed_file_keeps_its_id_on_its_way_to_a_name(pair: Pair) -> None:
    handle = pair.here.new_handle()
    pair.here.apply_local(Tmpfile(handle, ROOT, 0o600, 0, 0, 0, ident=IDENT))
    for op in pair.here.describe_nameless(handle):
        pair.there.apply(op)
    assert pair.there.ident_of(handle) == IDENT


def test_what_is_no_id_is_refused(pair: Pair) -> None:
    handle = make(pair, b"file")
    link = pair.here.new_handle()
    pair.do(Symlink(link, ROOT, b"link", b"to", 0, 0))
    for wrong in (Identify(handle, b"short"), Identify(link, IDENT)):
        with pytest.raises(OSError) as refused:
            pair.here.apply(wrong)
        assert refused.value.errno == errno.EINVAL
    bad = Make(99, ROOT, b"bad", FILE | 0o600, 0, 0, 0, 0, ident=b"short")
    with pytest.raises(OSError):
        pair.here.apply_local(bad)
    for op in pair.here.repair(bad):
        pair.there.apply(op)
    assert not pair.here.known_at(ROOT, b"bad")
    with pytest.raises(FileNotFoundError):
        pair.here.lookup(ROOT, b"bad")
