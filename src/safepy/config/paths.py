"""Where everything lives: a value computed from SAFE and SAFEVAR (reference: userconfig 1.1).

Nothing here touches the disk. A module's name is checked before it becomes part of a path (S18).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safepy.config.names import NAME_RULE, RESERVED_MODULE_NAMES, is_name
from safepy.errors import PackageError

DEFAULT_SAFE = "/opt/safekit"
DEFAULT_SAFEVAR = "/var/safekit"


def check_module_name(name: str) -> str:
    """`name` itself, if a module may have it. Raises PackageError."""
    if not is_name(name):
        raise PackageError(f"module name {name[:80]!r}: allowed are {NAME_RULE}")
    if name.lower() in RESERVED_MODULE_NAMES:
        raise PackageError(f"module name {name!r} is reserved: take another one")
    return name


@dataclass(frozen=True, slots=True)
class ModulePaths:
    """The files of one module. `source` is edited, `active` is the configuration in force."""

    name: str
    source: Path
    active: Path
    var: Path

    @property
    def source_conf(self) -> Path:
        return self.source / "conf"

    @property
    def source_bin(self) -> Path:
        return self.source / "bin"

    @property
    def source_userconfig(self) -> Path:
        return self.source_conf / "userconfig.xml"

    @property
    def conf(self) -> Path:
        """SAFEUSERCONF."""
        return self.active / "conf"

    @property
    def bin(self) -> Path:
        """SAFEUSERBIN."""
        return self.active / "bin"

    @property
    def userconfig(self) -> Path:
        return self.conf / "userconfig.xml"

    @property
    def safeconf(self) -> Path:
        """The configuration with its macros replaced; a module without it is not configured."""
        return self.conf / "safeconf.xml"

    @property
    def id_file(self) -> Path:
        return self.active / "id"

    @property
    def log_db(self) -> Path:
        return self.var / "log.db"

    @property
    def resource_db(self) -> Path:
        return self.var / "resource.db"

    @property
    def state_dir(self) -> Path:
        """0700, made by who writes the record."""
        return self.var / "state"

    @property
    def record(self) -> Path:
        return self.state_dir / "record"

    @property
    def doors(self) -> Path:
        """0700: private bind mounts of the replicated directories."""
        return self.var / "doors"

    def door(self, index: int) -> Path:
        return self.doors / str(index)

    @property
    def kept(self) -> Path:
        """What was kept aside before it was overwritten."""
        return self.var / "kept"

    @property
    def errdlist(self) -> Path:
        return self.var / "errdlist"


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one node."""

    safe: Path = Path(DEFAULT_SAFE)
    safevar: Path = Path(DEFAULT_SAFEVAR)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Paths:
        return cls(
            Path(environment.get("SAFE") or DEFAULT_SAFE),
            Path(environment.get("SAFEVAR") or DEFAULT_SAFEVAR),
        )

    @property
    def safekit(self) -> Path:
        """The command."""
        return self.safe / "safekit"

    @property
    def safebin(self) -> Path:
        """SAFEBIN."""
        return self.safe / "private" / "bin"

    @property
    def settings(self) -> Path:
        return self.safe / "conf" / "safeadmin.yaml"

    @property
    def modules(self) -> Path:
        return self.safe / "modules"

    @property
    def lastconfig(self) -> Path:
        return self.modules / "lastconfig"

    @property
    def private_modules(self) -> Path:
        return self.safe / "private" / "modules"

    @property
    def application_modules(self) -> Path:
        """Where installable `.safe` files are looked for."""
        return self.safe / "Application_Modules"

    @property
    def backup(self) -> Path:
        return self.application_modules / "backup"

    @property
    def cluster(self) -> Path:
        return self.safevar / "cluster"

    @property
    def cluster_xml(self) -> Path:
        return self.cluster / "cluster.xml"

    @property
    def cluster_key(self) -> Path:
        """0600: 32 random bytes in base64, one line."""
        return self.cluster / "cluster.key"

    @property
    def var_modules(self) -> Path:
        return self.safevar / "modules"

    @property
    def run(self) -> Path:
        """0700: the control socket is in it."""
        return self.safevar / "run"

    @property
    def control_socket(self) -> Path:
        return self.run / "safeadmin.sock"

    @property
    def log_db(self) -> Path:
        return self.safevar / "log.db"

    @property
    def resource_db(self) -> Path:
        return self.safevar / "resource.db"

    def module(self, name: str) -> ModulePaths:
        """The paths of a module. Raises PackageError for a name that is not allowed."""
        check_module_name(name)
        return ModulePaths(
            name, self.modules / name, self.private_modules / name, self.var_modules / name
        )
