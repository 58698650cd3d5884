"""What can be asked of the daemon: one async method for each verb of the admin socket.

`admin/server.py` calls these and nothing else of the daemon (it states the same signatures as a
Protocol, because layer 4 does not import layer 5). Arguments are typed and already authenticated;
results are plain data that become JSON. Whatever the operator should read is raised as a
`SafekitError` (refused, wrong configuration, unknown module ...); anything else is a bug.
"""

from __future__ import annotations

from typing import Any

from safepy.model import Level, Snapshot

JsonObject = dict[str, Any]


class ModuleManager:
    """The modules of this node and what may be done with them."""

    # -- looking ---------------------------------------------------------------------------

    async def modules(self) -> list[JsonObject]:
        """Installed modules by name: {module, id, mode, configured, digest, config_date, boot,
        state, status}. `config_date` is Unix seconds or None, `state` "" when not configured."""
        raise NotImplementedError

    async def snapshot(self, module: str) -> Snapshot:
        """The last published snapshot. Raises RequestRefused if unknown or not configured."""
        raise NotImplementedError

    async def next_snapshot(
        self, module: str, version: int, timeout_s: float
    ) -> tuple[int, Snapshot]:
        """Wait until the snapshot is newer than `version` (start with 0), at most `timeout_s`;
        then (its version, snapshot). For waitstart, waitstop, waitstate and followers."""
        raise NotImplementedError

    async def resources(self, module: str) -> list[tuple[str, str, float]]:
        """(name, value, Unix seconds of the last assignment), by name."""
        raise NotImplementedError

    async def record(self, module: str) -> JsonObject:
        """The generation record as a dictionary, for support."""
        raise NotImplementedError

    async def log_paths(self, module: str) -> JsonObject:
        """{log, resources, userlogs (folder), record, commands (node's command log)}: absolute
        paths that the CLI reads by itself (storage.modulelog, storage.resources)."""
        raise NotImplementedError

    async def ports(self, module: str) -> JsonObject:
        """{safeadmin, webconsole, heart, rfs}: port numbers; rfs None without `<rfs>`."""
        raise NotImplementedError

    # -- control ---------------------------------------------------------------------------

    async def action(
        self, module: str, action: str, who: str, identity: str = "", fullsync: bool = False
    ) -> None:
        """Ask for start, stop, prim, second, restart, stopstart or swap; returns at once (wait
        with `next_snapshot`). Raises RequestRefused at once for what can never be done now."""
        raise NotImplementedError

    async def failover(self, module: str, on: bool, who: str) -> None:
        """`safekit failover on|off`."""
        raise NotImplementedError

    async def shutdown(self, who: str) -> None:
        """Stop all running modules of this node; returns when they are STOP."""
        raise NotImplementedError

    async def boot(self, module: str, on: bool | None) -> str:
        """Set (or with None only read) whether the module starts at boot: "on" or "off"."""
        raise NotImplementedError

    # -- messages and resources -------------------------------------------------------------

    async def print_line(self, module: str, level: Level, text: str, origin: str) -> None:
        """`safekit printi|printe|printw`: a line for the module log. `origin` is who prints."""
        raise NotImplementedError

    async def get_resource(self, module: str, name: str) -> str:
        """The value. Raises RequestRefused if the resource was never set."""
        raise NotImplementedError

    async def set_resource(
        self, module: str, name: str, value: str, who: str, log: bool | None = None
    ) -> None:
        """`safekit set`: `log` False suppresses (-n), True forces (-l) the history entry."""
        raise NotImplementedError

    async def record_command(self, module: str, pid: int, arguments: list[str]) -> int:
        """A START line of the node's command log; returns a number for `record_command_end`."""
        raise NotImplementedError

    async def record_command_end(self, number: int, exit_code: int) -> None:
        """The END line."""
        raise NotImplementedError

    # -- module life -------------------------------------------------------------------------

    async def install(
        self, module: str, source: str, module_id: int | None = None, replace: bool = False
    ) -> int:
        """Install a `.safe` file or an unpacked folder (absolute path, or a name to search below
        SAFE/Application_Modules; "" = MODULE.safe); returns the module id.
        Raises PackageError or RequestRefused; nothing is left behind then."""
        raise NotImplementedError

    async def uninstall(self, module: str) -> None:
        """Deconfigure, keep a backup `.safe`, delete. Only in STOP."""
        raise NotImplementedError

    async def package(self, module: str, target: str) -> None:
        """Make a `.safe` of the installed module at the absolute path `target`."""
        raise NotImplementedError

    async def confcheck(self, module: str) -> list[str]:
        """Check the edited configuration without applying it; returns notes (may be empty).
        Raises ConfigError."""
        raise NotImplementedError

    async def config(self, module: str) -> list[str]:
        """Validate SAFE/modules/AM and make it the active configuration; returns notes. Only in
        STOP. On any error the active configuration stays as it was."""
        raise NotImplementedError

    async def deconfig(self, module: str) -> None:
        """Remove the active configuration; the module stays installed. Only in STOP."""
        raise NotImplementedError

    async def confinfo(self, module: str) -> JsonObject:
        """{active: {signature, date} | None, current: {signature, date} | None}."""
        raise NotImplementedError

    # -- cluster -----------------------------------------------------------------------------

    async def cluster_config(self, document: bytes | None, source: str) -> list[str]:
        """Apply a cluster.xml (None: the active one again); `source` names it in errors.
        Returns notes. Refused without a cluster key, or while a module that would lose its lan
        runs."""
        raise NotImplementedError

    async def cluster_confcheck(self, document: bytes, source: str) -> list[str]:
        """Check only."""
        raise NotImplementedError

    async def cluster_deconfig(self) -> None:
        """Remove the cluster configuration and the key. Only when all modules are STOP."""
        raise NotImplementedError

    async def cluster_confinfo(self) -> JsonObject:
        """{node, cluster_id, signature, date, lock, fingerprint, nodes: [names], lans:
        [{name, addresses: {node: addr}}]}; fingerprint "" without a key."""
        raise NotImplementedError

    async def cluster_genkey(self, force: bool = False) -> str:
        """Make SAFEVAR/cluster/cluster.key (0600) and return its fingerprint. An existing key is
        replaced only with `force`, and only when all modules are STOP."""
        raise NotImplementedError
