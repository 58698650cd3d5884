"""`safekit boot on|off`, and what follows from it and from the attribute `boot` of `<service>`
(reference 13.5)."""

from __future__ import annotations

from safepy.config.paths import ModulePaths
from safepy.daemon.site import replace_file


def boot_flag(module: ModulePaths) -> bool:
    """What `safekit boot on|off` set last."""
    try:
        return (module.var / "boot").read_text("ascii").strip() == "on"
    except FileNotFoundError:
        return False


def set_boot_flag(module: ModulePaths, on: bool) -> None:
    """Raises LocalFault."""
    replace_file(str(module.var / "boot"), b"on\n" if on else b"off\n", 0o644)


def boots(attribute: str, module: ModulePaths) -> str:
    """ "on" or "off", as people are told; the attribute comes before the flag unless it says
    `ignore`."""
    if attribute != "ignore":
        return "off" if attribute == "off" else "on"
    return "on" if boot_flag(module) else "off"
