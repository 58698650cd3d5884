"""The scripts `level` and `state` of a module, run where the command was typed (13.3)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass

from safepy.cli.context import App, paths
from safepy.cli.special import environment
from safepy.config import userconfig
from safepy.errors import SafekitError, ScriptError
from safepy.host.scripts import checked_script, script_environment

#: The command that asked must come back.
LIMIT_S = 10.0
OUTPUT_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class ScriptOutput:
    """What the script printed; `exit_code` None: it was ended for its time or its output."""

    output: str
    exit_code: int | None


def run_module_script(here: App, name: str) -> ScriptOutput | None:
    """Run SAFEUSERBIN/`name`, for at most LIMIT_S with everything it starts; None without one.
    Raises ScriptError if it must not be run."""
    files = paths().module(here.module)
    script = checked_script(files.bin / name)
    if script is None:
        return None
    try:
        user = userconfig.parse(files.safeconf.read_bytes(), str(files.safeconf), {}).user
    except (SafekitError, OSError):
        user = None  # what is wrong with it says `safekit state`
    variables = script_environment(environment(here), () if user is None else user.variables)
    try:
        process = subprocess.Popen(
            [script],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise ScriptError(f"script {script} cannot be run: {error.strerror}") from error
    with process:
        output, code = _until_end(process)
    return ScriptOutput(output.decode("utf-8", "replace"), code)


def _until_end(process: subprocess.Popen[bytes]) -> tuple[bytes, int | None]:
    """Its output, bounded in time and bytes, and its exit code; whatever is left is killed."""
    assert process.stdout is not None
    descriptor, output = process.stdout.fileno(), b""
    deadline = time.monotonic() + LIMIT_S
    try:
        while len(output) < OUTPUT_BYTES_MAX:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
                return output, None
            chunk = os.read(descriptor, 64 * 1024)
            if not chunk:
                return output, process.wait(max(0.1, deadline - time.monotonic()))
            output += chunk
        return output[:OUTPUT_BYTES_MAX], None
    except subprocess.TimeoutExpired:  # it closed its output and goes on
        return output, None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
