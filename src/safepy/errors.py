"""Errors, sorted by who is at fault; each is translated once, at the border.

A bug is none of these: it is an assertion, and it stops the daemon, which the service
manager starts again.
"""


class SafekitError(Exception):
    """Something the operator should read: one line, and what to do about it.

    `hint` says what to do next; it may be empty. Never shown with a stack trace.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(SafekitError):
    """The user's configuration is wrong: file, line, element, attribute, found, allowed."""


class PackageError(SafekitError):
    """A module package or folder cannot be accepted."""


class RequestRefused(SafekitError):
    """A command that cannot be carried out in the present state."""


class DaemonAbsent(SafekitError):
    """The daemon does not answer on its socket."""


class PeerError(SafekitError):
    """The other node sent what it must not, or went away: drop the link."""


class LocalFault(SafekitError):
    """This node is unfit: its disk, its records, its kernel."""


class ScriptError(SafekitError):
    """A module script failed, hung or died: exit code and last output in the message."""
