"""Rebooting this server through its service manager, which ends safeadmin in order before."""

from __future__ import annotations

import asyncio
import contextlib

from safepy.errors import LocalFault

COMMAND = ("systemctl", "reboot")
#: systemctl returns as soon as the manager has taken the order.
LIMIT_S = 30.0


async def reboot(reason: str, command: tuple[str, ...] = COMMAND) -> None:
    """The service manager was told to reboot the server, and `reason` for its log. Raises
    LocalFault if it did not take the order."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            f"--message={reason}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise LocalFault(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(LIMIT_S):
            _, said = await process.communicate()
    except TimeoutError:
        raise LocalFault(f"{' '.join(command)} does not answer") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if process.returncode:
        text = said.decode(errors="replace").strip() or f"exit code {process.returncode}"
        raise LocalFault(f"{' '.join(command)}: {text}")
