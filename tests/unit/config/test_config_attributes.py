"""Every attribute of the language: a test shows its effect, or it is refused by name with the
reason."""
# ruff: noqa: E501  (tests are named in one piece, so that a search finds them)

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from safepy.config import userconfig
from safepy.errors import ConfigError

ROOT = Path(__file__).parents[3]
FILE = "userconfig.xml"

CONFIG = "tests/unit/config/test_config_"
CHECKERS = "tests/unit/checkers/test_checkers_"
CORE = "tests/unit/core/test_core_"
DAEMON = "tests/unit/daemon/test_daemon_"
FUSE = "tests/fuse/test_fuse_"
DATA = "tests/unit/dataplane/test_"
STORY = "tests/scenarios/"

_MACROS = f"{CONFIG}userconfig.py::test_macros_win_over_the_environment_and_reach_into_values"
_GENERATED = f"{CONFIG}vip.py::test_checks_are_generated_once_and_only_where_they_are_wanted"
_REMINDED = f"{DAEMON}addresses.py::test_arpreroute_reminds_the_clients_for_a_while"
_PLACED = (
    f"{DAEMON}virtualip.py::test_interface_and_mask_may_be_named_and_a_wrong_place_is_corrected"
)
_ALIAS = f"{DAEMON}virtualip.py::test_an_alias_comes_and_goes_and_nothing_else_changes"
_LANES = (
    f"{DAEMON}attributes.py::test_heartbeats_have_the_addresses_of_their_lan_and_the_port_of_heart"
)
_BEATS = f"{CORE}machine.py::test_beats_go_out_every_pulse_also_in_stop_and_at_once_when_the_view_changes"
_LOST = f"{CORE}links.py::test_the_peer_is_lost_when_every_lane_and_the_stream_are_silent"
_OF_A_LANE = f"{CORE}links.py::test_each_lane_has_its_own_pulse_and_timeout"
_SAID = f"{CONFIG}rfs.py::test_what_has_no_effect_is_said"
_COMMITTED = f"{DATA}resync_scope.py::test_a_large_file_is_committed_now_and_then"
_IN_BYTES = f"{CONFIG}rfs.py::test_attributes"
_MOUNT = f"{FUSE}rfs_options.py::test_a_mount_that_does_not_answer"
_STOPPED = f"{CORE}machine.py::test_stop_scripts_have_the_configured_limits_and_start_scripts_none"
_SCRIPT_LOGS = f"{DAEMON}attributes.py::test_logging_and_userlogsize"
_VARIABLES = f"{DAEMON}dynamic.py::test_what_is_dynamic_changes_without_a_stop"
_NAMED = f"{CONFIG}modes.py::test_the_file_gives_a_script_and_its_children_the_name"
_MATCHING = "tests/unit/host/test_host_processes.py::test_matching"
_LABELS = f"{CONFIG}checks.py::test_resources_and_the_labels_of_generated_rules"
_REPORTED = f"{DAEMON}checking.py::test_the_first_result_and_each_change_are_reported"
_CLASSES = f"{DAEMON}checking.py::test_names_classes_and_arbiters"
_TOO_LONG = f"{CHECKERS}tests.py::test_what_takes_too_long_or_cannot_be_done_has_failed"
_PORT = f"{CHECKERS}tests.py::test_a_port_that_accepts_is_up_and_one_that_refuses_is_down"
_PING = f"{CHECKERS}networks.py::test_ping_over_a_wire_with_and_without_a_raw_socket"
_ACTS = f"{DAEMON}checks.py::test_a_port_that_closes_restarts_the_primary_and_the_pair_lives_on"
_PROGRAM = f"{DAEMON}checking.py::test_a_program_gets_its_words_and_is_killed_with_all_it_started"
_WAITS = f"{DAEMON}checks.py::test_a_program_decides_where_the_application_may_run"
_FOLLOWS = f"{DAEMON}checks.py::test_a_module_follows_another_one"
_MODULE = f"{CHECKERS}tests.py::test_a_module_is_up_down_and_restarted"
_WITNESSES = f"{CHECKERS}networks.py::test_witnesses"
_DISK = f"{CHECKERS}tests.py::test_room_read_only_and_latency"
_REPORTS = f"{DAEMON}checking.py::test_disk_and_delay_report_as_well"
_DELAY = f"{CHECKERS}tests.py::test_what_a_delay_means"

#: "element attribute" to the test of its effect; `to` by the element around it.
ACCEPTED = {
    "macro name": _MACROS,
    "macro value": _MACROS,
    "service mode": f"{DAEMON}light.py::test_a_light_module_from_start_to_stop",
    "service boot": f"{DAEMON}boot.py::test_who_starts_what",
    "service boot_delay": f"{DAEMON}attributes.py::test_boot_delay_comes_before_the_start_at_boot",
    "service failover": f"{STORY}13-failover-off.txt",
    "service defaultprim": f"{STORY}15-defaultprim-node.txt",
    "service maxloop": f"{STORY}12-maxloop.txt",
    "service loop_interval": f"{CORE}restarts.py::test_the_interval_counts_from_the_first_detection",
    "service automatic_reboot": f"{STORY}92-automatic-reboot.txt",
    "heart port": _LANES,
    "heart pulse": _BEATS,
    "heart timeout": _LOST,
    "heart permanent_arp": f"{CONFIG}modes.py::test_the_port_of_the_heartbeats_may_be_given",
    "heartbeat name": _LANES,
    "heartbeat ident": _LANES,
    "heartbeat pulse": _OF_A_LANE,
    "heartbeat timeout": _OF_A_LANE,
    "vip tcpreset": f"{DAEMON}addresses.py::test_without_tcpreset_connections_stay",
    "interface check": _GENERATED,
    "interface arpreroute": _REMINDED,
    "interface arpinterval": _REMINDED,
    "interface arpelapse": _REMINDED,
    "interface name": _PLACED,
    "virtual_addr addr": _ALIAS,
    "virtual_addr where": f"{DAEMON}virtualip.py::test_one_side_is_the_source_of_what_is_sent_and_routes_come_back",
    "virtual_addr check": _GENERATED,
    "virtual_addr connections": f"{DAEMON}addresses.py::test_set_announces_counts_and_remove_undoes_it",
    "virtual_addr netmask": _PLACED,
    "rfs async": f"{DATA}dataplane_secondary.py::test_a_batch_is_applied_in_order_and_acknowledged_once",
    "rfs nbrei": f"{DATA}resync_modes.py::test_a_large_file_is_shared_by_the_transfers",
    "rfs acl": f"{FUSE}names.py::test_acls_are_enforced_where_they_are_on",
    "rfs locktimeout": f"{FUSE}attributes.py::test_locktimeout_leaves_a_secondary_that_applies_nothing",
    "rfs sendtimeout": f"{FUSE}interruption.py::test_f26_after_sendtimeout_the_secondary_is_lost",
    "rfs reitimeout": f"{FUSE}interruption.py::test_a_target_that_does_not_answer_for_reitimeout",
    "rfs reidetail": "tests/unit/worker/test_worker_telling.py::test_detail_names_each_copied_file_and_bounds_a_flood",
    "rfs reicommit": _COMMITTED,
    "rfs reiallowedbw": f"{FUSE}interruption.py::test_reiallowedbw_bounds_what_all_transfers_send",
    "rfs packetsize": _SAID,
    "rfs reipacketsize": _IN_BYTES,
    "rfs ruzone_blocksize": _SAID,
    "rfs namespacepolicy": _SAID,
    "rfs nbremconn": _SAID,
    "rfs mountover": f"{CONFIG}rfs.py::test_what_the_reference_prints_is_accepted",
    "rfs mountoversuffix": _SAID,
    "rfs checktime": _MOUNT,
    "rfs checkintv": _MOUNT,
    "rfs syncdelta": f"{STORY}39-syncdelta.txt",
    "rfs syncat": f"{STORY}41-syncat.txt",
    "rfs scripts": f"{FUSE}rfs_options.py::test_callbacks",
    "flow name": f"{FUSE}daemon_dynamic.py::test_the_replication_changes_while_alone",
    "replicated dir": f"{FUSE}daemon_pair.py::test_replication_swap_stop_and_return",
    "replicated mode": f"{FUSE}worker_pair.py::test_the_secondary_is_visible_and_read_only",
    "tocheck path": f"{DAEMON}trees.py::test_what_tocheck_names_must_be_there",
    "notreplicated path": f"{FUSE}left_out.py::test_what_is_left_out_stays_here_and_files_may_come_in",
    "notreplicated regexpath": f"{DATA}dataplane_border.py::test_what_a_rule_says",
    "user nicestoptimeout": _STOPPED,
    "user forcestoptimeout": _STOPPED,
    "user logging": _SCRIPT_LOGS,
    "user userlogsize": _SCRIPT_LOGS,
    "var name": _VARIABLES,
    "var value": _VARIABLES,
    "virtualhostname name": _NAMED,
    "virtualhostname envfile": _NAMED,
    "virtualhostname when": _NAMED,
    "errd polltimer": f"{CHECKERS}process.py::test_first_look_comes_soon_and_in_a_thread",
    "proc name": _MATCHING,
    "proc nameregex": _MATCHING,
    "proc argregex": _MATCHING,
    "proc service": f"{CHECKERS}process.py::test_services_are_asked_for_by_name_and_their_states_count",
    "proc class": f"{CHECKERS}process.py::test_classes_are_independent_and_enabling_twice_is_harmless",
    "proc action": f"{DAEMON}errd.py::test_a_handler_in_a_class_of_its_own",
    "proc restart_services": f"{DAEMON}errd.py::test_the_restart_of_a_service_names_what_is_to_be_restarted",
    "proc start_after": f"{CHECKERS}process.py::test_start_after_leaves_out_the_first_cycles",
    "proc atleast": f"{CHECKERS}process.py::test_how_many_are_right",
    "proc atmax": f"{CHECKERS}process.py::test_how_many_are_right",
    "tcp ident": _LABELS,
    "tcp when": _CLASSES,
    "tcp action": _ACTS,
    "tcp to addr": _PORT,
    "tcp to port": _PORT,
    "tcp to interval": _REPORTED,
    "tcp to timeout": f"{CHECKERS}tests.py::test_a_listener_that_accepts_nothing_more_is_down_after_the_timeout",
    "ping ident": _LABELS,
    "ping when": _CLASSES,
    "ping action": _LABELS,
    "ping to addr": _PING,
    "ping to interval": _REPORTED,
    "ping to timeout": _PING,
    "intf ident": _LABELS,
    "intf when": _CLASSES,
    "intf to local_addr": f"{CHECKERS}networks.py::test_the_link_of_an_interface",
    "intf to interval": _REPORTED,
    "ip ident": _LABELS,
    "ip when": _CLASSES,
    "ip to addr": f"{CHECKERS}networks.py::test_an_address_that_is_here_and_is_taken_away",
    "ip to interval": _REPORTED,
    "ip to conflict": f"{CHECKERS}networks.py::test_another_host_with_the_same_ipv4_address_is_named",
    "custom ident": _PROGRAM,
    "custom when": _WAITS,
    "custom exec": _PROGRAM,
    "custom arg": _PROGRAM,
    "custom action": _WAITS,
    "module name": _FOLLOWS,
    "module ident": _LABELS,
    "module when": _FOLLOWS,
    "module to addr": _MODULE,
    "module to port": _MODULE,
    "module to interval": _REPORTED,
    "module to timeout": _TOO_LONG,
    "module to secure": f"{CONFIG}checks.py::test_what_is_refused",
    "splitbrain ident": _LABELS,
    "splitbrain when": _CLASSES,
    "splitbrain exec": _WITNESSES,
    "splitbrain arg": f"{STORY}51-link-cut-with-a-witness.txt",
    "disk ident": _REPORTS,
    "disk when": _REPORTS,
    "disk action": _LABELS,
    "disk to dir": _REPORTS,
    "disk to minfree": _DISK,
    "disk to maxlatency": _DISK,
    "disk to interval": _REPORTS,
    "disk to timeout": f"{CHECKERS}tests.py::test_a_disk_that_hangs_is_down_and_costs_one_thread",
    "delay when": _REPORTS,
    "delay action": _LABELS,
    "delay to max": _DELAY,
    "delay to interval": _REPORTS,
    "failover extends": f"{CONFIG}failover.py::test_extends_no_replaces_the_shipped_ones",
    "failover period": f"{STORY}71-a-rule-that-stays-true.txt",
    "failover handle_time": f"{STORY}61-rule-stopstart-until-maxloop.txt",
}

_FARM_MODE = 'mode="farm" is not supported yet'
_NOT_YET = "is not supported yet by this version"
_WINDOWS = "it is for Windows nodes"
_BEAT = '<heartbeat name="a"/>'


def mirror(rest: str = "", heart: str = f"<heart>{_BEAT}</heart>") -> str:
    return f'<safe><service mode="mirror">{heart}{rest}</service></safe>'


def vip(inside: str, attributes: str = "") -> str:
    return mirror(f"<vip {attributes}><interface_list>{inside}</interface_list></vip>")


def virtual(attributes: str) -> str:
    inside = f"<virtual_interface {attributes}><virtual_addr addr='192.0.2.1' where='alias'/>"
    return vip(f"<interface>{inside}</virtual_interface></interface>")


def balancing(inside: str) -> str:
    group = f'<group name="g">{inside}</group>'
    return mirror(f"<vip><loadbalancing_list>{group}</loadbalancing_list></vip>")


def rfs(attributes: str, inside: str = "") -> str:
    return mirror(f'<rfs {attributes}>{inside}<replicated dir="/a"/></rfs>')


#: The attributes of the reference's tree that this version refuses (and a few values of others):
#: a file, the name that the sentence has, and its reason.
REFUSED = {
    "farm": ('<safe><service mode="farm"/></safe>', "<service>", _FARM_MODE),
    "farm port": (mirror('<farm port="4803"/>'), "<farm>", _NOT_YET),
    "farm pulse": (mirror('<farm pulse="100"/>'), "<farm>", _NOT_YET),
    "farm mlost_count": (mirror('<farm mlost_count="20"/>'), "<farm>", _NOT_YET),
    "farm slost_count": (mirror('<farm slost_count="10"/>'), "<farm>", _NOT_YET),
    "farm lan name": (mirror('<farm><lan name="a"/></farm>'), "<farm>", _NOT_YET),
    "farm node name": (mirror('<farm><lan><node name="a"/></lan></farm>'), "<farm>", _NOT_YET),
    "farm node addr": (mirror('<farm><lan><node addr="1"/></lan></farm>'), "<farm>", _NOT_YET),
    "heart permanent_arp": (
        mirror(heart=f'<heart permanent_arp="on">{_BEAT}</heart>'),
        "<heart> attribute permanent_arp",
        "no entry of the ARP table is made permanent",
    ),
    "heartbeat server addr": (
        mirror(heart='<heart><heartbeat name="a"><server addr="192.0.2.1"/></heartbeat></heart>'),
        "<server>",
        _NOT_YET,
    ),
    "vip scriptcontrol": (
        vip("<interface/>", 'scriptcontrol="on"'),
        "<vip> attribute scriptcontrol",
        "belongs to farm modules",
    ),
    "virtual_interface type": (
        virtual('type="vmac_directed"'),
        "<virtual_interface>",
        "virtual MAC addresses are not supported",
    ),
    "virtual_interface addr": (
        virtual('addr="5A:FE:C0:00:02:3D"'),
        "<virtual_interface>",
        "clients learn the new place",
    ),
    "virtual_addr where": (
        vip(
            "<interface><real_interface><virtual_addr addr='192.0.2.1' where='alias'/>"
            "</real_interface></interface>"
        ),
        "<virtual_addr> attribute where",
        "it is for farm modules",
    ),
    "group name": (balancing(""), "<loadbalancing_list>", "shares no load"),
    "host name": (balancing('<cluster><host name="a"/></cluster>'), "<loadbalancing_list>", "farm"),
    "host power": (
        balancing('<cluster><host power="1"/></cluster>'),
        "<loadbalancing_list>",
        "farm",
    ),
    "rule virtual_addr": (balancing('<rule virtual_addr="*"/>'), "<loadbalancing_list>", "farm"),
    "rule port": (balancing('<rule port="80"/>'), "<loadbalancing_list>", "farm"),
    "rule proto": (balancing('<rule proto="tcp"/>'), "<loadbalancing_list>", "farm"),
    "rule filter": (balancing('<rule filter="on_addr"/>'), "<loadbalancing_list>", "farm"),
    "rfs iotimeout": (rfs('iotimeout="300"'), "<rfs> attribute iotimeout", _WINDOWS),
    "rfs roflags": (rfs('roflags="0x10"'), "<rfs> attribute roflags", _WINDOWS),
    "rfs allocthreshold": (rfs('allocthreshold="1"'), "<rfs> attribute allocthreshold", _WINDOWS),
    "rfs nfsbox_options": (rfs('nfsbox_options="cross"'), "attribute nfsbox_options", _WINDOWS),
    "flow server addr": (
        rfs("", '<flow name="a"><server addr="192.0.2.1"/></flow>'),
        "<server>",
        _NOT_YET,
    ),
    "module to secure": (
        mirror('<check><module name="m"><to secure="on"/></module></check>'),
        "<to> attribute secure",
        "HTTPS between web services is not supported yet",
    ),
    "proc cpu": (
        mirror('<user/><errd><proc name="a" class="prim" cpu="1"/></errd>'),
        "<proc> attribute cpu",
        "no documentation says what it means",
    ),
}


@cache
def names_in(path: Path) -> frozenset[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        each.name for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, kinds)
    )


def complaint(named: str) -> str:
    """Empty if the story, or the test in its file, exists."""
    file, _, function = named.partition("::")
    path = ROOT / file
    if not path.is_file():
        return f"{file} does not exist"
    if path.suffix == ".py" and function not in names_in(path):
        return f"{file} has no {function}"
    return ""


def language() -> set[str]:
    """All that the product accepts, as the table names it."""
    found = set()
    for tag, words in userconfig.VOCABULARY.items():
        if tag != "to":
            found |= {f"{tag} {name}" for name in words.attributes}
    for tag, words in userconfig.checks.TO_VOCABULARY.items():
        found |= {f"{tag} to {name}" for name in words.attributes}
    return found


def test_every_attribute_that_is_accepted_has_a_row_and_no_other() -> None:
    assert set(ACCEPTED) == language()


#: The element tree of the reference (userconfig 4, with 11 for <rfs>), an element and its attributes.
REFERENCE = """
macro: name value
service: mode boot boot_delay failover defaultprim maxloop loop_interval automatic_reboot
heart: port pulse timeout permanent_arp
heartbeat: name ident pulse timeout
heartbeat server: addr
farm: port pulse mlost_count slost_count
farm lan: name
farm node: name addr
vip: tcpreset scriptcontrol
interface: check arpreroute arpinterval arpelapse name
virtual_addr: addr where check connections netmask
virtual_interface: type addr
group: name
host: name power
rule: virtual_addr port proto filter
rfs: async nbrei reitimeout reidetail locktimeout sendtimeout packetsize reipacketsize
rfs: ruzone_blocksize namespacepolicy reicommit reiallowedbw nbremconn acl checktime checkintv
rfs: syncdelta syncat scripts mountoversuffix mountover iotimeout roflags allocthreshold
rfs: nfsbox_options
flow: name
flow server: addr
replicated: dir mode
tocheck: path
notreplicated: path regexpath
user: nicestoptimeout forcestoptimeout logging userlogsize
var: name value
virtualhostname: name envfile when
errd: polltimer
proc: name service nameregex argregex class action restart_services start_after atleast atmax cpu
tcp: ident when action
tcp to: addr port interval timeout
ping: ident when action
ping to: addr interval timeout
intf: ident when
intf to: local_addr
ip: ident when
ip to: addr interval
custom: ident when exec arg action
module: name ident
module to: addr port interval timeout secure
splitbrain: ident when exec arg
failover: extends period handle_time
"""


def test_every_attribute_of_the_reference_is_accepted_or_refused_by_name() -> None:
    rows = [line.split(":") for line in REFERENCE.split("\n") if line]
    tree = {f"{element} {name}" for element, names in rows for name in names.split()}
    assert tree <= ACCEPTED.keys() | REFUSED.keys()


def test_the_page_of_the_settings_names_every_attribute() -> None:
    page = (ROOT / "docs" / "userconfig.md").read_text()
    words = {word for span in re.findall(r"`([^`\n]+)`", page) for word in re.findall(r"\w+", span)}
    assert not [row for row in ACCEPTED if row.split()[-1] not in words]


def test_every_test_named_exists() -> None:
    wrong = [f"{row}: {text}" for row, named in ACCEPTED.items() if (text := complaint(named))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_not_carried_out_is_refused_by_name_with_the_reason(row: str) -> None:
    text, name, reason = REFUSED[row]
    with pytest.raises(ConfigError) as caught:
        userconfig.parse(text.encode(), FILE, {})
    said = str(caught.value)
    assert said.startswith(f"{FILE} line 1: ") and name in said and reason in said, said


@pytest.mark.parametrize("named", ["tests/nowhere.py::test_x", f"{CONFIG}xml.py::test_nobody"])
def test_what_does_not_exist_is_found(named: str) -> None:
    assert complaint(named)
