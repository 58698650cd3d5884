"""Which program stands in which file, and why some are refused."""

from __future__ import annotations

#: Name in SAFEBIN -> module of this package.
PROGRAMS: dict[str, str] = {
    "boundcmd": "boundcmd",
    "errdpoll_running": "errdpoll_running",
    "gencron": "gencron",
    "healthcheck.sh": "healthcheck",
    "logI18nMSG": "logi18n",
    "processtree": "processtree",
    "xpathGet": "xpathget",
}

_FARM = "it belongs to farm modules, which are not supported yet"

#: Programs of SafeKit that say why they do nothing, and fail.
REFUSED: dict[str, str] = {
    "anontool": "names and addresses stay in a snapshot; keys and passwords are taken out",
    "dbclean.sh": "nothing is to be cleaned: logs and resources keep their bounds by themselves",
    "firewallcfg": "open the ports by hand; safekit module getports -m AM names them",
    "rmcerts": "there are no certificates: nodes share the cluster key",
    "safeenc": "its key and its format are not documented; files with secrets belong to root, 0600",
    "safenotif": "the e-mail agent follows",
    "saferpc_send": _FARM,
    "smtpcfg": "the e-mail agent follows",
    "vip_if_ctrl": _FARM,
    "webservercfg": "the web service follows; only the health probe is there",
}
