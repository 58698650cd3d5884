"""fsync and its like; shared and private mappings."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal

from cases import effect, file, folder, look, on_both, tried

_libc = ctypes.CDLL(None, use_errno=True)


def status_of(work: object) -> int:
    """How a child process ended that does `work`."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        work()  # type: ignore[operator]
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@on_both
def test_what_can_be_synced() -> object:
    file("f", b"x")
    folder("d")
    os.mkfifo("p")
    fds = {
        "read": os.open("f", os.O_RDONLY),
        "write": os.open("f", os.O_WRONLY),
        "dir": os.open("d", os.O_RDONLY),
        "pipe": os.open("p", os.O_RDWR),
        "path": os.open("f", os.O_PATH),
    }
    return {
        name: [tried(os.fsync, fd), tried(os.fdatasync, fd), _libc.syncfs(fd)]
        for name, fd in fds.items()
    }


@on_both
def test_a_sync_stamps_nothing() -> object:
    file("f", b"x")
    fd = os.open("f", os.O_RDWR)
    return effect(os.fsync, fd, watch=["f", "."]), effect(os.fdatasync, fd, watch=["f", "."])


@on_both
def test_shared_mappings_and_calls_see_each_other() -> object:
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 20_000)
    results = []
    with mmap.mmap(fd, 0) as one, mmap.mmap(fd, 0) as two:
        one[5000:5005] = b"hello"
        results += [two[5000:5005], os.pread(fd, 5, 5000)]
        os.pwrite(fd, b"HELLO", 5000)
        results += [one[5000:5005], two[5000:5005]]
        os.ftruncate(fd, 5002)
        os.ftruncate(fd, 20_000)
        results += [one[5000:5005]]
    return results, os.pread(fd, 20_000, 0)


@on_both
def test_a_private_mapping_changes_nothing() -> object:
    file("f", b"x" * 10_000)
    fd = os.open("f", os.O_RDONLY)
    with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        mapped[:5] = b"mine!"
        return mapped[:6], os.pread(fd, 6, 0)


@on_both
def test_protection_and_kinds() -> object:
    file("f", b"x" * 5000, 0o755)
    folder("d")
    results = []
    for name, flags in (("f", os.O_RDONLY), ("f", os.O_WRONLY), ("f", os.O_RDWR), ("d", 0)):
        fd = os.open(name, flags)
        for kind in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            for protection in (mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC | mmap.PROT_READ):

                def attempt(fd: int = fd, kind: int = kind, protection: int = protection) -> None:
                    mmap.mmap(fd, 5000, kind, protection).close()

                results.append((name, flags, kind, protection, tried(attempt)))
    return results


@on_both
def test_beyond_the_end() -> object:
    """The last page reads as zeros, what is behind it is a bus error."""
    file("f", b"x" * 5000)
    fd = os.open("f", os.O_RDWR)
    with mmap.mmap(fd, 5000) as mapped:
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        inside = ctypes.string_at(address + 4990, 30)
        os.ftruncate(fd, 100)
        outcome = status_of(lambda: ctypes.string_at(address + 4500, 1))
        first = ctypes.string_at(address + 90, 20)
        os.ftruncate(fd, 5000)
        again = ctypes.string_at(address + 4500, 1)
        return inside, outcome, first, again, mmap.PAGESIZE


@on_both
def test_what_a_mapped_write_stamps() -> object:
    file("f", b"x" * 10_000)
    fd = os.open("f", os.O_RDWR)
    mapped = mmap.mmap(fd, 0)

    def write() -> None:
        mapped[100:105] = b"hello"
        mapped.flush()
        os.fsync(fd)

    return effect(write, watch=["f", "."])[1] is not None, os.pread(fd, 5, 100)  # type: ignore[index]


@on_both
def test_a_mapping_outlives_descriptor_and_name() -> object:
    file("f", b"x" * 10_000)
    fd = os.open("f", os.O_RDWR)
    os.link("f", "g")
    mapped = mmap.mmap(fd, 0)
    os.close(fd)
    os.unlink("f")
    mapped[:5] = b"still"
    mapped.flush()
    mapped.close()
    with open("g", "rb") as left:
        return left.read(7), look("g")


@on_both
def test_children_share_what_their_parent_mapped() -> object:
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 4096)
    mapped = mmap.mmap(fd, 0)

    def write() -> None:
        mapped[7] = 77

    return status_of(write), mapped[7], os.pread(fd, 1, 7)


@on_both
def test_a_program_is_run_from_it() -> object:
    with open("/bin/true", "rb") as program:
        file("true", program.read(), 0o755)
    import subprocess

    return subprocess.call(["./true"]), os.access("true", os.X_OK)
