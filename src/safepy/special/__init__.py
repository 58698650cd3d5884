"""The programs of SAFEBIN that scripts of modules call (reference: modules-states-commands 11.2).

Each is a file with HELP and `main(arguments)`, which returns the exit code; `table` names them.
SAFEBIN/NAME is a line of shell that runs `python -m safepy.special NAME`.
"""
