"""The units of systemd, by their state: one call of systemctl for all of them (reference:
userconfig 14.1, `service="yes"`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from safepy.errors import LocalFault

SYSTEMCTL = "systemctl"
OUTPUT_BYTES_MAX = 4 << 20
COMPLAINT_BYTES_MAX = 64 << 10
_PROPERTIES = "Id,Names,LoadState,ActiveState,SubState"
_SUFFIXES = (
    *(".service", ".socket", ".target", ".mount", ".automount", ".timer", ".path", ".slice"),
    *(".scope", ".swap", ".device"),
)
_RUNNING = frozenset({"active", "reloading", "refreshing"})
#: `activating` is a start under way, unless systemd only waits to start again what has died.
_WAITING = frozenset({"auto-restart", "auto-restart-queued"})


@dataclass(frozen=True, slots=True)
class Unit:
    """As systemd tells: LoadState, ActiveState, SubState."""

    load: str
    active: str
    sub: str

    @property
    def runs(self) -> bool:
        if self.active == "activating":
            return self.sub not in _WAITING
        return self.active in _RUNNING


def unit_name(service: str) -> str:
    """The full name of a unit, as systemctl completes it."""
    return service if service.endswith(_SUFFIXES) else f"{service}.service"


async def show(services: Iterable[str], timeout_s: float) -> dict[str, Unit]:
    """The state of each of `services`; one that systemd does not know is `not-found`.

    Raises LocalFault when systemd cannot be asked, or does not answer in time.
    """
    wanted = sorted(set(services))
    if not wanted:
        return {}
    argv = ("show", "--no-pager", f"--property={_PROPERTIES}", "--", *map(unit_name, wanted))
    try:
        async with asyncio.timeout(timeout_s):
            text = await _output(SYSTEMCTL, *argv)
    except TimeoutError:
        raise LocalFault(f"systemctl does not answer within {timeout_s:g} s") from None
    units = parse(text)
    return {name: units[unit_name(name)] for name in wanted if unit_name(name) in units}


def parse(text: str) -> dict[str, Unit]:
    """What `systemctl show` prints, one block for each unit, by all names of the unit."""
    found: dict[str, Unit] = {}
    for block in text.split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        unit = Unit(*(values.get(f"{key}State", "") for key in ("Load", "Active", "Sub")))
        for name in (values.get("Id", ""), *values.get("Names", "").split()):
            if name:
                found[name] = unit
    return found


async def _output(program: str, *arguments: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(os.environ),
            start_new_session=True,
        )
    except OSError as error:
        raise LocalFault(f"{program} cannot be run: {error.strerror}") from None
    assert process.stdout is not None and process.stderr is not None
    try:
        data, complaint = await asyncio.gather(
            _all(process.stdout, OUTPUT_BYTES_MAX), _all(process.stderr, COMPLAINT_BYTES_MAX)
        )
        code = await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code != 0:
        lines = complaint.decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
        raise LocalFault(f"{program}: {lines[0]}")
    return data.decode(errors="replace")


async def _all(stream: asyncio.StreamReader, limit: int) -> bytes:
    """To its end. Raises LocalFault when there is more than `limit`."""
    data = bytearray()
    while piece := await stream.read(65536):
        data += piece
        if len(data) > limit:
            raise LocalFault("systemctl gives an answer without end")
    return bytes(data)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": own.get("PATH", os.defpath), "LC_ALL": "C", "SYSTEMD_COLORS": "0"}
