"""Making a module's edited configuration the active one, and undoing that (reference 18.2).

Everything is checked before anything changes; what fails afterwards puts back what was there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safepy.config import errd, userconfig, vhost
from safepy.config import module as folders
from safepy.config.check import check_against
from safepy.config.paths import ModulePaths, Paths
from safepy.config.schema import ModuleConfig
from safepy.config.userconfig import Parsed
from safepy.daemon import releasing, reset, virtual
from safepy.daemon.node import active_config
from safepy.daemon.plan import Plan, plan_module, rfs_port, trees_of
from safepy.daemon.scripting import environment
from safepy.daemon.site import Site
from safepy.errors import ConfigError, LocalFault, SafekitError
from safepy.model import Active
from safepy.net.lanes import port_free
from safepy.storage.record import RecordFile
from safepy.storage.resources import Resources

#: Resources that are settings of an operator.
SETTINGS = ("usersetting.errd", "usersetting.failover", "usersetting.checker")
#: Copies of successful configurations that are kept for each module.
LAST_CONFIGS = 3


@dataclass(frozen=True, slots=True)
class Checked:
    """An edited configuration that can be applied."""

    parsed: Parsed
    plan: Plan
    #: The record must begin anew: other directories, or another peer (contracts).
    starts_anew: bool
    #: What is replicated of the same directories changed.
    compares_everything: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """Addresses and ports that a module has as it runs now: heartbeats, and its worker's."""

    udp: frozenset[tuple[str, int]] = frozenset()
    tcp: tuple[str, int] | None = None


NOTHING_HELD = Held()


def held_by(plan: Plan, running: bool) -> Held:
    """What a module with this plan has; its worker listens while it is `running`."""
    replicates = running and plan.config.rfs is not None
    return Held(
        udp=frozenset((lane.local, lane.port) for lane in plan.lanes),
        tcp=(plan.flow_local, rfs_port(plan.module_id)) if replicates else None,
    )


def check(
    site: Site, paths: ModulePaths, others: Mapping[str, ModuleConfig], held: Held = NOTHING_HELD
) -> Checked:
    """Check the edited configuration against this node. `held`: ports that the module itself has
    now. Raises ConfigError and others; blocks."""
    cluster, _ = site.require()
    file = paths.source_userconfig
    module_id = folders.module_id(paths)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"{file} is missing",
            f"put it back (the active one is in {paths.conf}), or install the module anew",
        ) from None
    if module_id is None:
        raise LocalFault(
            f"module {paths.name} has lost its id", f"safekit module install -r -m {paths.name}"
        )
    given = environment(site.paths, paths, (), active=False)
    parsed = userconfig.read(data, str(file), given, virtual.resolve)
    peer = check_against(
        parsed.config,
        cluster,
        site.node,
        file=str(file),
        lines=parsed.lines,
        others={name: other for name, other in others.items() if name != paths.name},
        reserved=(str(site.paths.safe), str(site.paths.safevar)),
    )
    _check_directories(parsed, str(file))
    notes = virtual.check(parsed, str(file), cluster, paths)
    parsed = replace(parsed, notes=(*parsed.notes, *notes))
    _check_handlers(parsed, str(file), paths)
    plan = plan_module(paths, module_id, parsed.config, cluster, site.node, peer)
    _check_ports(plan, held)
    anew = _starts_anew(paths, parsed.config, peer)
    return Checked(parsed, plan, anew, not anew and _replicates_other(paths, parsed.config))


def apply(site: Site, checked: Checked) -> None:
    """The checked configuration is the active one, durably. Raises SafekitError; then the one
    before still is. What it asks of the record is noted: `reset.settle`, when nothing can go wrong
    any more. Blocks."""
    paths = checked.plan.paths
    if checked.starts_anew:
        # A crash after this leaves the note, and the record begins anew all the same.
        reset.ask(paths)
    elif checked.compares_everything:
        reset.ask_everything(paths)
    try:
        folders.configure(paths, checked.parsed.expanded_xml, _generated(site.paths, checked))
    except SafekitError:
        reset.withdraw(paths)
        raise


def _generated(paths: Paths, checked: Checked) -> dict[str, bytes]:
    """What stands in the active `bin` besides what somebody put into it."""
    config, module = checked.parsed.config, checked.plan.paths
    variables = () if config.user is None else config.user.variables
    told = environment(paths, module, variables)
    names = [name for name in told if name.startswith("SAFE")]
    given = [(name, told[name]) for name in (*names, *(name for name, _ in variables))]
    environments = {host.envfile: vhost.environment_file(host) for host in config.vhosts}
    return environments | releasing.wrappers(module, config, given)


def forget_settings(paths: ModulePaths) -> None:
    """`errd off`, `failover off`: undone by applying the configuration (reference 9.6)."""
    resources = Resources(str(paths.resource_db))
    try:
        for name in SETTINGS:
            resources.drop(name)
    finally:
        resources.close()


def undo(paths: ModulePaths) -> None:
    """No configuration is active, nothing of ours is mounted, the record is UNCONFIGURED.
    Raises SafekitError; blocks."""
    with contextlib.suppress(ConfigError, OSError):
        trees = trees_of(paths, active_config(paths))
        if trees is not None:
            trees.uncover()
    reset.forget(paths)
    folders.deconfigure(paths)


def keep_active(paths: ModulePaths) -> Path | None:
    """A copy of the active configuration, to go back to. Raises LocalFault; then there is none."""
    if not folders.is_configured(paths):
        return None
    copy = paths.active.with_name(f".{paths.name}.before")
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(paths.active, copy, symlinks=True)
    except OSError as error:
        shutil.rmtree(copy, ignore_errors=True)
        # `shutil.Error` has a list of (from, to, why), one for each file.
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else str(error)
        raise LocalFault(
            f"no copy of the active configuration can be kept: {why}",
            "nothing is changed; make room there, then give the command again",
        ) from error
    return copy


def put_back(paths: ModulePaths, copy: Path | None) -> None:
    """The active configuration is again what `keep_active` kept, and what the other one asked of
    the record is not wanted any more."""
    if copy is None:
        folders.deconfigure(paths)
    else:
        rejected = paths.active.with_name(f".{paths.name}.rejected")
        shutil.rmtree(rejected, ignore_errors=True)
        paths.active.rename(rejected)
        copy.rename(paths.active)
        shutil.rmtree(rejected, ignore_errors=True)
    # Only now: a crash before this leaves the new configuration, whose record must begin anew.
    reset.withdraw(paths)


def drop_copy(copy: Path | None) -> None:
    if copy is not None:
        shutil.rmtree(copy, ignore_errors=True)


def keep_last(paths: Paths, module: ModulePaths) -> None:
    """A `.safe` of what was applied, the last three of each module (reference 3.1)."""
    folder = paths.lastconfig
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%d_%H%M%S")
    folders.pack(module.source, folder / f"{module.name}_{stamp}.safe")
    kept = sorted(folder.glob(f"{module.name}_????-??-??_??????.safe"))
    for old in kept[:-LAST_CONFIGS]:
        with contextlib.suppress(OSError):
            old.unlink()


def signature(
    folder_conf: Path, folder_bin: Path, without: frozenset[str] = frozenset()
) -> tuple[str, float] | None:
    """Digest and newest modification (Unix seconds) of a configuration's files, but for those that
    are called as in `without`; None without a configuration."""
    if not (folder_conf / "userconfig.xml").is_file():
        return None
    digest = hashlib.sha256()
    newest = 0.0
    for folder in (folder_conf, folder_bin):
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            if path.name == "safeconf.xml" or path.name in without:
                continue
            digest.update(f"{folder.name}/{path.relative_to(folder)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            newest = max(newest, path.stat().st_mtime)
    return digest.hexdigest()[:32], newest


def generated_names(paths: ModulePaths) -> frozenset[str]:
    """The files that `config` made in the active `bin`."""
    if not folders.is_configured(paths):
        return frozenset()
    try:
        config = active_config(paths)
    except (SafekitError, OSError):
        return frozenset()
    wrappers = releasing.wrappers(paths, config, ())
    return frozenset({host.envfile for host in config.vhosts} | wrappers.keys())


def _check_directories(parsed: Parsed, file: str) -> None:
    rfs = parsed.config.rfs
    for entry in () if rfs is None else rfs.replicated:
        where = f"{file} line {parsed.lines.get(f'replicated {entry.dir}', 0)}: <replicated>"
        what = f'{where} attribute dir="{entry.dir}"'
        try:
            mode = os.lstat(entry.dir).st_mode
        except FileNotFoundError:
            raise ConfigError(f"{what}: there is no such directory", "mkdir it") from None
        except OSError as error:
            raise ConfigError(f"{what}: {error.strerror}") from error
        if not stat.S_ISDIR(mode):
            raise ConfigError(f"{what}: is not a directory", "name a directory, not a link to it")
        if os.path.realpath(entry.dir) != entry.dir:
            real = os.path.realpath(entry.dir)
            raise ConfigError(f"{what}: leads over a link", f"name the directory itself: {real}")


def _check_handlers(parsed: Parsed, file: str, paths: ModulePaths) -> None:
    """An action that is none of the known words is an executable: a misspelt one shows here."""
    for proc in parsed.config.errd.procs:
        found = paths.source_bin / proc.action
        if proc.action in errd.ACTIONS or (found.is_file() and os.access(found, os.X_OK)):
            continue
        line = parsed.lines.get(f"proc {proc.name}", 0)
        raise ConfigError(
            f'{file} line {line}: <proc> attribute action="{proc.action}": found no executable '
            f"{found}, allowed are {', '.join(errd.ACTIONS)}, an executable (absolute, or in bin)"
        )


def _check_ports(plan: Plan, held: Held) -> None:
    for lane in plan.lanes:
        mine = (lane.local, lane.port) in held.udp
        if not mine and not port_free(lane.local, lane.port, socket.SOCK_DGRAM):
            raise _port_used(plan, lane.local, "UDP", lane.port)
    if plan.config.rfs is not None:
        port = rfs_port(plan.module_id)
        if (plan.flow_local, port) != held.tcp and not port_free(
            plan.flow_local, port, socket.SOCK_STREAM
        ):
            raise _port_used(plan, plan.flow_local, "TCP", port)


def _port_used(plan: Plan, address: str, kind: str, port: int) -> ConfigError:
    return ConfigError(
        f"module {plan.name} (id {plan.module_id}): {kind} port {port} of {address} is in use",
        f"free it (ss -lnp), or give the module another id, on both nodes: safekit module package "
        f"-m {plan.name} /root/{plan.name}.safe, safekit module install -r -M ID -m {plan.name} "
        f"/root/{plan.name}.safe",
    )


def _starts_anew(paths: ModulePaths, config: ModuleConfig, peer: str) -> bool:
    """Whether what the record says cannot hold for the new configuration."""
    try:
        record = RecordFile(str(paths.record)).load()
    except LocalFault:
        return True
    if record.peer and record.peer != peer:
        return True
    if not folders.is_configured(paths):
        return record.active is not Active.NONE
    try:
        before = active_config(paths)
    except (SafekitError, OSError):
        return True
    return _directories(before) != _directories(config)


def _replicates_other(paths: ModulePaths, config: ModuleConfig) -> bool:
    """Whether other files, or other attributes of them, are replicated than before."""
    if not folders.is_configured(paths):
        return False
    before = active_config(paths)
    return _replicated(before) != _replicated(config)


def _replicated(config: ModuleConfig) -> object:
    rfs = config.rfs
    return rfs and (rfs.acl, [sorted(entry.notreplicated) for entry in rfs.replicated])


def _directories(config: ModuleConfig) -> list[str]:
    return [] if config.rfs is None else [entry.dir for entry in config.rfs.replicated]
