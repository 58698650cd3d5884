"""Programs that people run on their files, on the mount of a live pair, and equal trees after."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from labkit import need
from tree_picture import differences, picture
from worker_pair import Job, Pair, pair_up

from safepy.worker.common import sync_path

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
LIMIT_S = 240
GIT = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_CONFIG_NOSYSTEM": "1",
    "HOME": "/nonexistent",
}


class Scene:
    """A live pair, and a folder beside it."""

    def __init__(self, pair: Pair) -> None:
        self.a = pair.worker("a", acl=True)
        self.b = pair.worker("b", acl=True)
        pair_up(self.a, self.b)
        self.mount = self.a.public
        self.beside = pair.base / "beside"
        self.beside.mkdir()

    def do(self, work: Callable[[], object]) -> None:
        """File work runs beside the test, which stands in for the daemons meanwhile."""
        failed: list[BaseException] = []

        def carefully() -> None:
            try:
                work()
            except (AssertionError, subprocess.CalledProcessError) as error:
                failed.append(error)

        Job(carefully).finish(self.a, self.b, limit_s=LIMIT_S)
        if failed:
            raise failed[0]

    def assert_equal_trees(self) -> None:
        Job(lambda: sync_path(str(self.mount))).finish(self.a, self.b, limit_s=120)
        on_a, on_b = picture(self.a.door), picture(self.b.public)
        assert differences(on_a, on_b)[:20] == [], "first: primary, second: secondary"


@pytest.fixture
def scene(pair: Pair) -> Iterator[Scene]:
    pair.base.chmod(0o755)
    made = Scene(pair)
    yield made
    made.assert_equal_trees()


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def odd_tree(folder: Path) -> None:
    """Everything that a copying program may lose."""
    folder.mkdir()
    for number in range(40):
        inner = folder / f"dir{number % 5}" / f"sub{number % 3}"
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"file{number}").write_bytes(os.urandom(number * 700))
    (folder / "dir0" / "set-id").write_bytes(b"x")
    (folder / "dir0" / "set-id").chmod(0o6755)
    os.chown(folder / "dir1", 1234, 4321)
    (folder / "dir2").chmod(0o3770)
    os.link(folder / "dir0/sub0/file0", folder / "dir1/hard")
    os.link(folder / "dir1/hard", folder / "dir3/hard2")
    (folder / "link").symlink_to("dir0")
    (folder / "dangling").symlink_to("nowhere/at/all")
    os.chown(folder / "link", 7, 8, follow_symlinks=False)
    os.mkfifo(folder / "pipe")
    os.mknod(folder / "device", stat.S_IFCHR | 0o640, os.makedev(1, 3))
    socket.socket(socket.AF_UNIX).bind(str(folder / "socket"))
    with (folder / "sparse").open("wb") as sparse:
        sparse.seek(3 << 20)
        sparse.write(b"end")
    for name in (b"new\nline", b"\xff\xfe", b" ", b"-rf", "é".encode(), b"n" * 255):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)
    os.setxattr(folder / "dir0/sub0/file30", "user.comment", b"\0binary\xff")
    os.setxattr(folder / "dir3", "trusted.mark", b"1")
    run("setfacl", "-m", "u:1001:rwx,g:4242:r,m::rx", folder / "dir4" / "sub1" / "file4")
    run("setfacl", "-d", "-m", "u:1001:rwx", folder / "dir4")
    for path in sorted(folder.rglob("*"), reverse=True):
        ns = 1_600_000_000_123_456_789 + len(str(path)) * 10**9
        os.utime(path, ns=(ns, ns), follow_symlinks=False)
    os.utime(folder, ns=(0, 0))


def assert_same(one: Path, other: Path, ignore: set[str]) -> None:
    assert differences(picture(one), picture(other), ignore)[:10] == []


def test_rsync_with_everything_into_and_out_of_it(scene: Scene) -> None:
    need.commands("rsync", "setfacl")
    source, out = scene.beside / "source", scene.beside / "out"
    odd_tree(source)

    def copy() -> None:
        options = ("-aHAXS", "--numeric-ids", "--checksum")
        inside = scene.mount / "copy"
        run("rsync", *options, f"{source}/", f"{inside}/")
        assert run("rsync", *options, "--delete", "-in", f"{source}/", f"{inside}/") == ""
        assert_same(source, inside, {"data"})
        run("rsync", *options, f"{inside}/", f"{out}/")
        assert_same(source, out, {"data"})
        # A second pass after changes: renamed, shortened, gone.
        (inside / "dir0").rename(inside / "moved")
        os.truncate(inside / "sparse", 5)
        shutil.rmtree(inside / "dir1")
        run("rsync", *options, "--delete", f"{source}/", f"{inside}/")
        assert_same(source, inside, {"data"})
        assert_same(source, scene.a.door / "copy", {"data"})

    scene.do(copy)


def test_tar_with_attributes_and_acls(scene: Scene) -> None:
    need.commands("tar", "setfacl")
    source, out = scene.beside / "source", scene.beside / "out"
    odd_tree(source)
    out.mkdir()
    (source / "socket").unlink()  # tar leaves sockets out
    os.utime(source, ns=(0, 0))  # as it was
    keep = ("--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--format=posix")

    def copy() -> None:
        inside = scene.mount / "extracted"
        inside.mkdir()
        run("tar", *keep, "-S", "-C", source, "-cf", scene.mount / "archive.tar", ".")
        run("tar", *keep, "-p", "-C", inside, "-xf", scene.mount / "archive.tar")
        assert_same(source, inside, {"data"})
        run("tar", *keep, "-C", inside, "-czf", scene.mount / "archive.tar.gz", ".")
        run("tar", *keep, "-p", "-C", out, "-xzf", scene.mount / "archive.tar.gz")
        assert_same(source, out, {"data"})
        compared = run("tar", "--compare", "-C", inside, "-f", scene.mount / "archive.tar")
        assert compared == ""
        shutil.rmtree(inside)

    scene.do(copy)


def test_git_commits_packs_clones_and_finds_nothing_wrong(scene: Scene) -> None:
    need.commands("git")
    origin, clone, away = scene.mount / "origin", scene.mount / "clone", scene.beside / "away"

    def git(*words: str | Path, at: Path = origin) -> str:
        return run("git", "-c", "protocol.file.allow=always", *words, cwd=at, **GIT)

    def work() -> None:
        run("git", "init", "-q", "-b", "main", origin, **GIT)
        for commit in range(5):
            for number in range(40):
                folder = origin / f"d{number % 7}"
                folder.mkdir(exist_ok=True)
                (folder / f"f{number}").write_text(f"{commit} {number}\n" * (number + 1))
            git("add", "-A")
            git("commit", "-qm", f"commit {commit}")
            git("branch", f"b{commit}")
        git("mv", "d0", "moved")
        git("rm", "-rq", "d1")
        git("commit", "-qm", "moved")
        git("checkout", "-q", "b2")
        git("checkout", "-q", "main")
        git("stash", "list")
        assert git("status", "--porcelain") == ""
        git("gc", "-q", "--prune=now")
        git("clone", "-q", "--no-hardlinks", origin, clone)
        git("clone", "-q", origin, away)
        git("clone", "-q", origin, scene.mount / "linked")
        (clone / "new").write_text("pushed")
        git("add", "new", at=clone)
        git("commit", "-qm", "pushed", at=clone)
        git("push", "-q", "origin", "HEAD:refs/heads/pushed", at=clone)
        git("repack", "-adq", at=clone)
        git("pack-refs", "--all", at=clone)
        for place in (origin, clone, away, scene.mount / "linked"):
            assert "error" not in git("fsck", "--full", "--strict", at=place)
        assert git("rev-parse", "pushed") == git("rev-parse", "HEAD", at=clone)
        assert git("rev-parse", "main") == git("rev-parse", "HEAD", at=away)

    scene.do(work)
    # What the secondary holds is a repository, too.
    copy = scene.beside / "from-secondary"
    run("cp", "-a", scene.b.public / "origin", copy)
    run("git", "fsck", "--full", "--strict", cwd=copy, **GIT)


MAKEFILE = """\
CFLAGS = -O0 -MMD
OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))
program: libparts.a
\t$(CC) -o $@ -Wl,--whole-archive $< -Wl,--no-whole-archive
libparts.a: $(OBJECTS)
\tar rcs $@ $^
clean:
\trm -f *.o *.d *.a program
-include *.d
"""


def test_a_package_is_built(scene: Scene) -> None:
    need.commands("gcc", "make", "dpkg-deb")
    project, package = scene.mount / "project", scene.mount / "package"
    parts = 12

    def build() -> None:
        project.mkdir()
        (project / "Makefile").write_text(MAKEFILE)
        (project / "all.h").write_text("".join(f"int part{n}(void);\n" for n in range(parts)))
        for n in range(parts):
            (project / f"part{n}.c").write_text(
                f'#include "all.h"\nint part{n}(void) {{ return {n}; }}\n'
            )
        calls = " + ".join(f"part{n}()" for n in range(parts))
        (project / "main.c").write_text(
            f'#include <stdio.h>\n#include "all.h"\nint main(void) {{ printf("%d", {calls}); }}\n'
        )
        run("make", "-j4", "-C", project)
        assert run(project / "program") == str(sum(range(parts)))
        run("make", "-q", "-C", project)  # everything is newer than what it is made from
        (project / "part3.c").write_text('#include "all.h"\nint part3(void) { return 1003; }\n')
        run("make", "-j4", "-C", project)
        assert run(project / "program") == str(sum(range(parts)) + 1000)
        (package / "DEBIAN").mkdir(parents=True)
        (package / "usr/bin").mkdir(parents=True)
        shutil.copy2(project / "program", package / "usr/bin/program")
        (package / "DEBIAN/control").write_text(
            "Package: part\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n"
        )
        run("dpkg-deb", "--root-owner-group", "-b", package, scene.mount / "part.deb")
        run("dpkg-deb", "-x", scene.mount / "part.deb", scene.mount / "unpacked")
        assert run(scene.mount / "unpacked/usr/bin/program") == run(project / "program")
        shutil.copytree(HERE.parent.parent / "src/safepy/core", scene.mount / "core")
        run(sys.executable, "-m", "compileall", "-q", scene.mount / "core")
        assert list((scene.mount / "core").rglob("*.pyc"))
        run("make", "-C", project, "clean")

    scene.do(build)


def test_a_mail_store(scene: Scene) -> None:
    """Many deliver, some read and some clear out: no mail is lost and none is there twice."""
    deliverers, mails = 6, 60
    box = scene.mount / "Maildir"
    for name in ("tmp", "new", "cur"):
        (box / name).mkdir(parents=True)
    load = [sys.executable, str(HERE / "maildir.py"), str(box)]

    def work() -> None:
        writers = [
            subprocess.Popen([*load, "deliver", str(n), str(mails)]) for n in range(deliverers)
        ]
        readers = [
            subprocess.Popen(
                [*load, "read", str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for n in range(2)
        ]
        try:
            assert [writer.wait(LIMIT_S) for writer in writers] == [0] * deliverers
            said = [reader.communicate("", timeout=LIMIT_S)[0] for reader in readers]
            assert [reader.returncode for reader in readers] == [0, 0]
        finally:
            for process in writers + readers:
                process.kill()
                process.wait()
        expunged = "".join(said).split()
        left = [path.name.partition(":")[0] for path in (box / "cur").iterdir()]
        assert list((box / "tmp").iterdir()) == list((box / "new").iterdir()) == []
        wanted = sorted(f"{n}.{mail}" for n in range(deliverers) for mail in range(mails))
        assert sorted(expunged + left) == wanted
        assert expunged and left

    scene.do(work)
