"""When a record begins anew, and what a failed configuration leaves alone."""

from __future__ import annotations

import resource
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from safepy.config import cluster as cluster_config
from safepy.config import module as folders
from safepy.config import userconfig
from safepy.config.paths import ModulePaths, Paths
from safepy.config.settings import Settings
from safepy.daemon import configuring, reset
from safepy.daemon.plan import heart_port, rfs_port
from safepy.daemon.site import Site
from safepy.errors import ConfigError, LocalFault, PackageError, SafekitError
from safepy.model import Disk, Record, SyncPolicy
from safepy.storage.record import RecordFile

MODULE_ID = 91
CLUSTER = b"""<cluster><lans><lan name="default"><node name="n1" addr="127.91.0.1"/>
<node name="n2" addr="127.91.0.2"/></lan></lans></cluster>"""
LEFT = Record(module="web", node="n1", peer="n2", epoch=9, promised=9, disk=Disk.UPTODATE)


class Place:
    def __init__(self, root: Path) -> None:
        self.paths = Paths(root / "safe", root / "var")
        self.module: ModulePaths = self.paths.module("web")
        self.root = root
        cluster = cluster_config.parse(CLUSTER, "cluster.xml")
        self.site = Site(self.paths, Settings(), cluster, bytes(32), "n1")
        self.module.source_conf.mkdir(parents=True)
        self.module.source_bin.mkdir()
        self.record = RecordFile(str(self.module.record))
        self.write("a", "b")
        folders.allocate_id(self.paths, "web", MODULE_ID)

    def write(self, *directories: str, attributes: str = "", inside: str = "") -> None:
        entries = ""
        for name in directories:
            (self.root / name).mkdir(exist_ok=True)
            entries += f'<replicated dir="{self.root / name}">{inside}</replicated>'
        self.module.source_userconfig.write_text(
            '<safe><service mode="mirror"><heart><heartbeat name="default"/></heart>'
            f"<rfs {attributes}>{entries}</rfs></service></safe>"
        )

    def check(self) -> configuring.Checked:
        return configuring.check(self.site, self.module, {})

    def configure(self) -> bool:
        """Whether the record began anew."""
        checked = self.check()
        configuring.apply(self.site, checked)
        reset.settle(self.module)
        return checked.starts_anew

    @property
    def active(self) -> list[str]:
        config = userconfig.parse(self.module.safeconf.read_bytes(), "safeconf.xml", {})
        return [] if config.rfs is None else [Path(e.dir).name for e in config.rfs.replicated]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path.resolve())
    made.configure()
    made.record.save(LEFT)
    return made


def test_the_same_directories_keep_the_record(place: Place) -> None:
    assert not place.configure()
    assert place.record.load() == LEFT


@pytest.mark.parametrize(
    ("attributes", "inside"), [('acl="on"', ""), ("", '<notreplicated path="x"/>')]
)
def test_other_files_of_the_same_directories_are_all_compared(
    place: Place, attributes: str, inside: str
) -> None:
    full = replace(LEFT, policy=SyncPolicy(mode="full", why=reset.WHY_EVERYTHING))
    place.write("a", "b", attributes=attributes, inside=inside)
    assert not place.configure()
    assert place.record.load() == full
    # Until a synchronisation has done it; and not because of what changes nothing of it.
    place.record.save(LEFT)
    place.write("a", "b", attributes=attributes + ' reiallowedbw="5"', inside=inside)
    place.configure()
    assert place.record.load() == LEFT
    place.write("a", "b")
    place.configure()
    assert place.record.load() == full


def test_a_crash_in_between_asks_for_everything_at_the_next_start(place: Place) -> None:
    reset.ask_everything(place.module)
    reset.settle(place.module)
    assert place.record.load().policy.mode == "full"
    place.record.save(LEFT)
    reset.settle(place.module)
    assert place.record.load() == LEFT


def test_other_directories_begin_anew_but_no_number_goes_back(place: Place) -> None:
    place.write("a", "c")
    assert place.configure()
    assert place.record.load() == Record(epoch=9, promised=9)
    assert place.active == ["a", "c"]


def test_another_peer_begins_anew(place: Place) -> None:
    place.record.save(Record(module="web", node="n1", peer="n3", epoch=9, disk=Disk.UPTODATE))
    assert place.configure()
    assert place.record.load().disk is Disk.UNCONFIGURED


def test_a_configuration_that_fails_leaves_the_record(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("a", "c")

    def full(*_: object) -> None:
        raise PackageError("No space left on device")

    monkeypatch.setattr(configuring.folders, "configure", full)
    with pytest.raises(PackageError):
        place.configure()
    reset.settle(place.module)
    assert place.record.load() == LEFT
    assert place.active == ["a", "b"]


def test_a_crash_in_between_begins_anew_at_the_next_start(place: Place) -> None:
    reset.ask(place.module)
    reset.settle(place.module)
    assert place.record.load() == Record(epoch=9, promised=9)
    place.record.save(LEFT)
    reset.settle(place.module)
    assert place.record.load() == LEFT


def test_undo_forgets(place: Place) -> None:
    configuring.undo(place.module)
    assert not folders.is_configured(place.module)
    assert place.record.load().disk is Disk.UNCONFIGURED
    assert folders.module_id(place.module) == MODULE_ID


def test_without_room_for_the_copy_nothing_is_left_of_it(place: Place) -> None:
    before = sorted(place.module.active.rglob("*"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # the kernel refuses each byte
    try:
        with pytest.raises(LocalFault, match=r"no copy .* can be kept: .*File too large"):
            configuring.keep_active(place.module)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(place.module.active.rglob("*")) == before
    assert [path.name for path in place.module.active.parent.iterdir()] == [place.module.name]


def test_the_copy_is_put_back(place: Place) -> None:
    copy = configuring.keep_active(place.module)
    place.write("c")
    place.configure()
    assert place.active == ["c"]
    configuring.put_back(place.module, copy)
    assert place.active == ["a", "b"]
    assert folders.module_id(place.module) == MODULE_ID


def test_with_the_configuration_before_its_record_stays(place: Place) -> None:
    """What fails after the new one was active (its `postconfig`, the record's disk) leaves no note
    that would make the record begin anew with the next start of the daemon."""
    copy = configuring.keep_active(place.module)
    place.write("c")
    configuring.apply(place.site, place.check())
    assert place.record.load() == LEFT, "not before everything else has gone well"
    configuring.put_back(place.module, copy)
    reset.settle(place.module)
    assert place.record.load() == LEFT


@pytest.mark.parametrize(
    ("kind", "port"),
    [(socket.SOCK_DGRAM, heart_port(MODULE_ID)), (socket.SOCK_STREAM, rfs_port(MODULE_ID))],
)
def test_a_port_in_use_is_one_clear_line(place: Place, kind: socket.SocketKind, port: int) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.91.0.1", port))
        with pytest.raises(ConfigError, match=rf"port {port} of 127\.91\.0\.1 is in use") as caught:
            place.check()
        assert "\n" not in str(caught.value)
    place.check()


def test_directories_that_cannot_be_replicated(place: Place) -> None:
    place.write("a")
    (place.root / "a").rename(place.root / "gone")
    with pytest.raises(ConfigError, match="no such directory"):
        place.check()
    (place.root / "a").symlink_to(place.root / "gone")
    with pytest.raises(ConfigError, match="not a link"):
        place.check()
    (place.root / "a").unlink()
    (place.root / "a").write_text("")
    with pytest.raises(ConfigError, match="is not a directory"):
        place.check()


def test_an_action_that_is_no_word_is_an_executable(place: Place) -> None:
    def watch(action: str) -> None:
        place.module.source_userconfig.write_text(
            '<safe><service mode="mirror"><heart><heartbeat name="default"/></heart><user/>\n'
            f'<errd><proc name="a" class="mine" action="{action}"/></errd></service></safe>'
        )
        place.check()

    handler = place.module.source_bin / "repair"
    with pytest.raises(ConfigError, match=r'line 2: .*action="stopstrat": found no executable'):
        watch("stopstrat")
    with pytest.raises(ConfigError, match="found no executable"):
        watch("repair")
    handler.write_text("")
    with pytest.raises(ConfigError, match="found no executable"):
        watch("repair")
    handler.chmod(0o755)
    watch("repair")
    watch(str(handler))
    with pytest.raises(ConfigError, match="found no executable"):
        watch("/etc")


def test_two_modules_with_one_directory(place: Place) -> None:
    other = userconfig.parse(place.module.safeconf.read_bytes(), "safeconf.xml", {})
    with pytest.raises(SafekitError, match="module db replicates"):
        configuring.check(place.site, place.module, {"db": other})
