"""A program of the user's own that tests without end and sets its resource itself (reference:
userconfig 15.5, modules-states-commands 11.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safepy.config.schema import CustomCheck
from safepy.errors import ScriptError
from safepy.host.scripts import ScriptRunner


@dataclass(frozen=True, slots=True)
class Programs:
    """How the programs of one module are run: relative paths are below `bin`; the output goes to
    `SAFEUSERVAR/customlog_IDENT.ulog`, of at most `log_bytes` (0: nowhere)."""

    runner: ScriptRunner
    module: str
    bin: Path
    var: Path
    environment: Mapping[str, str]
    log_bytes: int

    async def run(self, check: CustomCheck) -> str:
        """Run it to its end, which should never come; how it ended. Then, and when this is
        cancelled, everything that it started is killed."""
        try:
            result = await self.runner.run(
                self.bin / check.path,
                (self.module, check.resource, *check.arguments),
                self.environment,
                None,
                self.var / f"customlog_{check.ident}.ulog" if self.log_bytes else None,
                self.log_bytes,
                resident=True,
            )
        except ScriptError as error:
            return str(error)
        return result.describe() if not result.missing else f"there is no {check.path}"
