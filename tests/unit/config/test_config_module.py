"""Module folders and packages: what is installed, and the attacks that are not."""

import errno
import os
import resource
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safepy.config import module
from safepy.config.paths import Paths
from safepy.errors import PackageError

TEMPLATE = Path(__file__).parents[3] / "modules" / "mirror.safe"
USERCONFIG = "conf/userconfig.xml"
Entry = tuple[zipfile.ZipInfo | str, bytes]


def info(
    name: str, mode: int = stat.S_IFREG | 0o644, compress: int = zipfile.ZIP_STORED
) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    made.compress_type = compress
    return made


def package(path: Path, *entries: Entry, config: bool = True) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        if config:
            out.writestr(USERCONFIG, b"<safe/>")
        for name, data in entries:
            out.writestr(name, data)
    return path


def tree(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "safe", tmp_path / "var")


def refusal(source: Path, paths: Paths) -> str:
    """Why `source` is not installed; and nothing is left behind."""
    with pytest.raises(PackageError) as caught:
        module.install(source, paths.modules, "m")
    assert str(caught.value).isprintable()
    assert not paths.modules.exists() or list(paths.modules.iterdir()) == []
    return caught.value.message


def test_a_folder_is_installed_with_our_modes(paths: Paths) -> None:
    target = module.install(TEMPLATE, paths.modules, "mirror")
    assert tree(target) == {
        "bin": 0o755,
        "bin/prestart": 0o755,
        "bin/start_prim": 0o755,
        "bin/stop_prim": 0o755,
        "conf": 0o755,
        "conf/userconfig.xml": 0o644,
    }
    assert [path.name for path in paths.modules.iterdir()] == ["mirror"]
    assert module.installed(paths) == ("mirror",)


def test_a_package_is_installed_with_our_modes_not_its_own(paths: Paths, tmp_path: Path) -> None:
    source = package(
        tmp_path / "a.safe",
        (info("bin/", stat.S_IFDIR | 0o777), b""),
        (info("bin/start_prim", stat.S_IFREG | 0o4777), b"#!/bin/sh\n"),
        (info("conf/modulekey.p12", stat.S_IFREG | 0o666), b"secret"),
        ("manifest.xml", b"<x/>"),
    )
    target = module.install(source, paths.modules, "m")
    modes = tree(target)
    assert modes["bin/start_prim"] == 0o755
    assert modes["conf/modulekey.p12"] == 0o600
    assert modes["manifest.xml"] == 0o644


def test_a_name_that_exists_is_refused_unless_replaced(paths: Paths, tmp_path: Path) -> None:
    module.install(TEMPLATE, paths.modules, "m")
    source = package(tmp_path / "a.safe", ("bin/new", b"x"))
    with pytest.raises(PackageError, match="module m is already installed"):
        module.install(source, paths.modules, "m")
    assert "bin/start_prim" in tree(paths.modules / "m")
    module.install(source, paths.modules, "m", replace=True)
    assert sorted(tree(paths.modules / "m")) == ["bin", "bin/new", "conf", USERCONFIG]
    assert [path.name for path in paths.modules.iterdir()] == ["m"]


@pytest.mark.parametrize("name", ["lastconfig", "../x", "a b", ""])
def test_names_that_are_refused(name: str, paths: Paths) -> None:
    with pytest.raises(PackageError, match="module name"):
        module.install(TEMPLATE, paths.modules, name)


LINK = stat.S_IFLNK | 0o777
ATTACKS: dict[str, tuple[list[Entry], str]] = {
    "parent": ([("../evil", b"x")], 'the name "../evil" may leave the folder'),
    "inner parent": ([("bin/../../evil", b"x")], "may leave the folder"),
    "absolute": ([("/etc/evil", b"x")], "may leave the folder"),
    "dot": ([("bin/./evil", b"x")], "may leave the folder"),
    "empty part": ([("bin//evil", b"x")], "may leave the folder"),
    "backslash": ([("bin\\evil", b"x")], "may leave the folder"),
    "control character": ([("bin/a\nb", b"x")], "may leave the folder"),
    "link": ([(info("bin/x", LINK), b"/etc/passwd")], "bin/x: a link or a device"),
    "device": ([(info("bin/x", stat.S_IFCHR | 0o666), b"")], "bin/x: a link or a device"),
    "pipe": ([(info("bin/x", stat.S_IFIFO | 0o666), b"")], "bin/x: a link or a device"),
    "link as folder": ([(info("bin/x/", LINK), b"")], "bin/x/: a link or a device"),
    "case": ([("bin/Start", b"x"), ("bin/start", b"y")], "there twice, or differs"),
    "case of folder": (
        [("Bin/a", b"x"), ("bin/b", b"y")],
        "differs from another name only in case",
    ),
    "unicode": ([("bin/\u00e9", b"x"), ("bin/e\u0301", b"y")], "there twice, or differs"),
    "file and folder": ([("bin", b"x"), ("bin/a", b"y")], "bin: a file and a folder"),
    "deep": ([("/".join("abcdefghijklm"), b"x")], "deeper than 12 folders"),
    "long": ([("b" * 300, b"x")], "longer than 255 bytes"),
    "many": ([(f"bin/{n}", b"") for n in range(2001)], "2002 members, allowed are at most 2000"),
    "method": ([(info("bin/x", compress=zipfile.ZIP_BZIP2), b"x")], "compressed in a way"),
    "bomb": (
        [(info("bin/x", compress=zipfile.ZIP_DEFLATED), bytes(5 << 20))],
        "unpacks to more than 200 times its size",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str, paths: Paths, tmp_path: Path) -> None:
    entries, message = ATTACKS[name]
    found = refusal(package(tmp_path / "a.safe", *entries), paths)
    assert found.startswith(f"{tmp_path}/a.safe: ")
    assert message in found
    assert not (tmp_path / "evil").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice(paths: Paths, tmp_path: Path) -> None:
    assert "there twice" in refusal(
        package(tmp_path / "a.safe", ("bin/a", b"1"), ("bin/a", b"2")), paths
    )


def test_a_name_with_nul_is_not_cut(paths: Paths, tmp_path: Path) -> None:
    source = package(tmp_path / "a.safe", ("bin/aXb", b"x"))
    source.write_bytes(source.read_bytes().replace(b"bin/aXb", b"bin/a\0b"))
    assert "may leave the folder or is no plain name" in refusal(source, paths)


def test_lies_about_sizes(paths: Paths, tmp_path: Path) -> None:
    data = b"x" * 5000
    source = package(tmp_path / "a.safe", ("bin/a", data))
    honest = source.read_bytes()
    for lie in (4000, 6000, (64 << 20) + 1, 0xFFFFFFFE):
        source.write_bytes(honest.replace(struct.pack("<I", 5000), struct.pack("<I", lie)))
        assert "a.safe: " in refusal(source, paths)


def test_what_is_no_package(paths: Paths, tmp_path: Path) -> None:
    source = tmp_path / "a.safe"
    assert "No such file" in refusal(source, paths)
    source.write_bytes(b"nonsense")
    assert "no module package" in refusal(source, paths)
    assert refusal(package(source, ("bin/a", b""), config=False), paths).endswith(
        "conf/userconfig.xml is missing in it"
    )
    source.unlink()
    os.mkfifo(source)
    assert "neither a folder nor a file" in refusal(source, paths)


def test_a_directory_of_millions_is_not_even_read(paths: Paths, tmp_path: Path) -> None:
    source = package(tmp_path / "a.safe")
    data = bytearray(source.read_bytes())
    data[-10:-6] = struct.pack("<I", 50 << 20)
    source.write_bytes(data)
    assert "its directory is bigger than" in refusal(source, paths)


def test_a_damaged_package(paths: Paths, tmp_path: Path) -> None:
    source = package(
        tmp_path / "a.safe", (info("bin/a", compress=zipfile.ZIP_DEFLATED), b"xyz" * 99)
    )
    data = bytearray(source.read_bytes())
    data[data.index(b"bin/a") + 8] ^= 0xFF
    source.write_bytes(data)
    assert "no module package" in refusal(source, paths)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("zip") / "a.safe"
    entry = (info("bin/a", compress=zipfile.ZIP_DEFLATED), b"hello" * 50)
    return package(path, entry, ("web/index.html", b"x")).read_bytes()


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_fuzz_packages(honest: bytes, tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(honest)
    for at, value in changes:
        data[at % len(data)] = value
    source = tmp_path / "fuzz.safe"
    source.write_bytes(data)
    try:
        module.install(source, tmp_path / "modules", "m", replace=True)
    except PackageError as exc:
        assert str(exc).isprintable()
    assert {path.name for path in tmp_path.iterdir()} <= {"fuzz.safe", "modules"}


def bad_link(folder: Path) -> None:
    (folder / "bin" / "x").symlink_to("/etc/passwd")


def bad_folder_link(folder: Path) -> None:
    (folder / "web").symlink_to("/etc")


def bad_pipe(folder: Path) -> None:
    os.mkfifo(folder / "bin" / "x")


def bad_case(folder: Path) -> None:
    (folder / "bin" / "START_PRIM").touch()


@pytest.mark.parametrize("spoil", [bad_link, bad_folder_link, bad_pipe, bad_case])
def test_folders_are_held_to_the_same(
    spoil: Callable[[Path], None], paths: Paths, tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    (folder / "conf").mkdir(parents=True)
    (folder / USERCONFIG).write_text("<safe/>")
    (folder / "bin").mkdir()
    (folder / "bin" / "start_prim").touch()
    spoil(folder)
    refusal(folder, paths)


def test_pack_and_install_again(paths: Paths, tmp_path: Path) -> None:
    first = module.install(TEMPLATE, paths.modules, "one")
    package_file = tmp_path / "out.safe"
    module.pack(first, package_file)
    second = module.install(package_file, paths.modules, "two")
    assert tree(first) == tree(second)
    for path in first.rglob("*"):
        if path.is_file():
            assert (second / path.relative_to(first)).read_bytes() == path.read_bytes()
    with zipfile.ZipFile(package_file) as packed:
        assert packed.getinfo("bin/prestart").external_attr >> 16 == stat.S_IFREG | 0o755
    (first / "bin" / "link").symlink_to("x")
    with pytest.raises(PackageError, match="a link or a device"):
        module.pack(first, package_file)
    assert zipfile.is_zipfile(package_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.safe", "safe"]


def test_configure_exchanges_the_active_copy_and_keeps_the_id(paths: Paths) -> None:
    mine = paths.module("m")
    module.install(TEMPLATE, paths.modules, "m")
    assert module.allocate_id(paths, "m") == 1
    assert not module.is_configured(mine)
    module.configure(mine, b"<safe/>")
    assert module.is_configured(mine)
    assert module.module_id(mine) == 1
    assert mine.safeconf.read_bytes() == b"<safe/>"
    assert stat.S_IMODE((mine.bin / "start_prim").stat().st_mode) == 0o755
    (mine.source_bin / "start_prim").unlink()
    (mine.source / "web").mkdir()
    module.configure(mine, b"<safe></safe>")
    assert sorted(path.name for path in mine.active.iterdir()) == ["bin", "conf", "id"]
    assert not (mine.bin / "start_prim").exists()
    (mine.source_bin / "link").symlink_to("/etc/passwd")
    with pytest.raises(PackageError):
        module.configure(mine, b"")
    assert mine.safeconf.read_bytes() == b"<safe></safe>"
    module.deconfigure(mine)
    assert not module.is_configured(mine)
    assert module.module_id(mine) == 1
    assert [path.name for path in paths.private_modules.iterdir()] == ["m"]


def test_uninstall_keeps_a_package_and_the_working_files(paths: Paths) -> None:
    mine = paths.module("m")
    module.install(TEMPLATE, paths.modules, "m")
    module.allocate_id(paths, "m")
    module.configure(mine, b"<safe/>")
    mine.kept.mkdir(parents=True)
    module.uninstall(mine, paths.backup)
    assert not mine.source.exists()
    assert not mine.active.exists()
    assert mine.kept.exists()
    assert module.installed(paths) == ()
    module.install(paths.backup / "m.safe", paths.modules, "m")
    assert module.installed(paths) == ("m",)


def test_ids(paths: Paths) -> None:
    for name in ("a", "b", "c"):
        module.install(TEMPLATE, paths.modules, name)
    assert module.allocate_id(paths, "a") == 1
    assert module.allocate_id(paths, "b", imposed=3) == 3
    assert module.allocate_id(paths, "c") == 2
    assert module.allocate_id(paths, "c") == 2
    with pytest.raises(PackageError, match="module id 1 belongs to module a"):
        module.allocate_id(paths, "c", imposed=1)
    for wrong in (0, 101, -1):
        with pytest.raises(PackageError, match="allowed are 1 to 100"):
            module.allocate_id(paths, "c", imposed=wrong)
    module.uninstall(paths.module("a"), paths.backup)
    module.install(TEMPLATE, paths.modules, "d")
    assert module.allocate_id(paths, "d") == 1
    paths.module("d").id_file.write_text("x")
    with pytest.raises(PackageError, match="allowed are numbers"):
        module.module_id(paths.module("d"))


def test_remains_of_a_killed_install_are_removed(paths: Paths) -> None:
    stale = paths.modules / ".m.new-0123"
    stale.mkdir(parents=True)
    (stale / "x").touch()
    module.install(TEMPLATE, paths.modules, "m")
    assert [path.name for path in paths.modules.iterdir()] == ["m"]


def test_a_disk_without_room_leaves_the_id_and_no_remains(paths: Paths) -> None:
    module.install(TEMPLATE, paths.modules, "m")
    module.allocate_id(paths, "m")
    mine = paths.module("m")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # the kernel refuses each byte
    try:
        with pytest.raises(PackageError) as refusal:
            module.allocate_id(paths, "m", imposed=7)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refusal.value.message == f"{mine.id_file}: {os.strerror(errno.EFBIG)}"
    assert module.module_id(mine) == 1
    assert [path.name for path in mine.active.iterdir()] == ["id"]
