"""The scripts `level` and `state` of a module, run where the command was typed (13.3)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from safepy.cli.bounded import output_of
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
        printed = output_of([os.fspath(script)], variables, LIMIT_S, OUTPUT_BYTES_MAX)
    except OSError as error:
        raise ScriptError(f"script {script} cannot be run: {error.strerror}") from error
    return ScriptOutput(printed.data.decode("utf-8", "replace"), printed.exit_code)
