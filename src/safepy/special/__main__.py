"""`python -m safepy.special NAME ARGUMENTS`: run one of the programs.

Exit codes: what the program says; 1 it failed or is refused; 2 wrong usage.
"""

from __future__ import annotations

import sys
from importlib import import_module

from safepy.errors import SafekitError
from safepy.special.table import PROGRAMS, REFUSED
from safepy.special.usage import WrongUsage

LIST = "--list"


def run(words: list[str]) -> int:
    """The exit code of `words[0]` with the other words as its arguments."""
    name, arguments = (words or [""])[0], words[1:]
    if name == LIST:
        print("\n".join(sorted({**PROGRAMS, **REFUSED})))
        return 0
    if name in REFUSED:
        return _complain(name, f"not supported: {REFUSED[name]}", 1)
    if name not in PROGRAMS:
        known = ", ".join(sorted(PROGRAMS))
        return _complain("safekit -r", f"there is no program {name!r} (there are: {known})", 2)
    program = import_module(f"safepy.special.{PROGRAMS[name]}")
    if arguments[:1] in (["-h"], ["--help"]):
        print(program.HELP.strip())
        return 0
    try:
        code: int = program.main(arguments)
    except WrongUsage as error:
        usage = program.HELP.strip().splitlines()[0]
        return _complain(name, f"{error} ({usage})", program.USAGE_CODE)
    except SafekitError as error:
        return _complain(name, str(error), 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(name, f"{where}{error.strerror or error}", 1)
    except KeyboardInterrupt:
        return 130
    return code


def _complain(name: str, text: str, code: int) -> int:
    line = "".join(sign if sign.isprintable() else " " for sign in f"{name}: error: {text}")
    print(line, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
