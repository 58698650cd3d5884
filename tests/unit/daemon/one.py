"""One real daemon and one module whose scripts write down that they ran."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from pair import MODULE, SCRIPT, Daemon, until

SCRIPTS = (
    *("prestart", "poststop", "transition", "update"),
    *(f"{verb}_{role}" for verb in ("start", "stop") for role in ("both", "prim", "sec", "second")),
)
MODULE_ID = 38


class One(Daemon):
    """A node of a cluster whose other node does not run."""

    def __init__(self, root: Path) -> None:
        net = f"127.{os.getpid() % 250 + 1}.{secrets.randbelow(250) + 1}"
        nodes = "".join(f'<node name="n{n}" addr="{net}.{n}"/>' for n in (1, 2))
        cluster = f'<cluster><lans><lan name="default">{nodes}</lan></lans></cluster>'
        key = base64.b64encode(secrets.token_bytes(32)) + b"\n"
        super().__init__(root, "n1", f"{net}.1", key, cluster)
        self.source = self.safe / "modules" / MODULE

    def put(self, xml: str, **scripts: str) -> None:
        """The edited module: this configuration, every script; `scripts`: what they do more."""
        (self.source / "conf").mkdir(parents=True, exist_ok=True)
        (self.source / "bin").mkdir(exist_ok=True)
        (self.source / "conf" / "userconfig.xml").write_text(xml)
        for name in SCRIPTS:
            path = self.source / "bin" / name
            path.write_text(SCRIPT + scripts.get(name, ""))
            path.chmod(0o755)

    def begin(self, xml: str, **scripts: str) -> None:
        self.put(xml, **scripts)
        self.start()
        self.ask("module.install", source=str(self._package()), module_id=MODULE_ID, replace=True)
        self.configure()

    def _package(self) -> Path:
        package = self.root / "package"
        if not package.exists():
            self.source.rename(package)
        return package

    def become(self, shown: str, limit_s: float = 20.0) -> None:
        until(lambda: self.shown == shown, lambda: self.story(shown), limit_s)

    def story(self, wanted: object = "") -> str:
        return "\n".join(
            [f"wanted {wanted}, is {self.shown}", *self.lines(), *self.calls, self.log.read_text()]
        )

    def called(self, since: int = 0) -> list[str]:
        return self.calls[since:]

    def until_called(self, line: str) -> None:
        until(lambda: line in self.calls, lambda: self.story(line))
