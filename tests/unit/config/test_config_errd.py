"""<errd> and <proc>: what each attribute becomes, and the one line that refuses (14)."""

import pytest
from test_config_userconfig import document, parse, refusal

from safepy.config.schema import Errd, Proc


def errd(procs: str, attributes: str = "") -> Errd:
    return parse(document(rest=f"<user/><errd {attributes}>{procs}</errd>")).errd


def test_the_example_of_the_reference() -> None:
    """userconfig 23.10, as it is printed there."""
    found = errd(
        """<proc name="postgres" argregex=".*-D /srv/db.*" atleast="1" action="stopstart"
                 class="prim" start_after="3"/>
           <proc name="ora" nameregex="ora_.*" action="restart" class="prim"/>
           <proc name="worker" service="yes" action="restart" restart_services="worker"
                 class="prim"/>
           <proc name="agent" action="restart_agent" class="agent"/>
           <proc name="rogue" atleast="-1" atmax="0" action="noaction" class="both"/>""",
        'polltimer="10s"',
    )
    assert found == Errd(
        10.0,
        (
            Proc("postgres", "prim", "stopstart", 1, ".*-D /srv/db.*", start_after=3),
            Proc("ora", "prim", "restart", nameregex="ora_.*"),
            Proc("worker", "prim", "restart", service=True, restart_services=("worker",)),
            Proc("agent", "agent", "restart_agent"),
            Proc("rogue", "both", "noaction", -1, atmax=0),
        ),
    )
    assert [proc.resource for proc in found.procs][:2] == ["proc.postgres", "proc.ora"]


def test_defaults() -> None:
    assert errd('<proc name="a" class="prim"/>') == Errd(30.0, (Proc("a", "prim"),))


@pytest.mark.parametrize(
    "name", ["front", "front.service", "db@1", r"dev-disk\x2d1.mount", "x" * 63]
)
def test_services(name: str) -> None:
    (proc,) = errd(f'<proc name="{name}" service="yes" class="prim" atleast="1" atmax="-1"/>').procs
    assert (proc.name, proc.service) == (name, True)


def test_services_to_restart_are_listed_in_their_order() -> None:
    words = 'service="yes" action="restart" restart_services="b,  a ,c.service"'
    (proc,) = errd(f'<proc name="a" class="prim" {words}/>').procs
    assert proc.restart_services == ("b", "a", "c.service")


@pytest.mark.parametrize("action", ["repair", "tools/repair.sh", "/opt/app/repair"])
def test_handlers(action: str) -> None:
    (proc,) = errd(f'<proc name="a" class="mine" action="{action}"/>').procs
    assert proc.action == action


def test_both_nodes_may_watch_other_things() -> None:
    """<errd> is dynamic, and says nothing about who leads (reference 17)."""
    one = parse(document(rest='<user/><errd><proc name="a" class="prim"/></errd>'))
    assert one.digest == parse(document(rest="<user/>")).digest


LABELS = "letters, digits, _ and -, at most 64"
SERVICES = "allowed are names of systemd units, at most 63 characters"
WRONG = {
    'name="a"': f"class is missing: allowed are prim, both, second, sec, pre, or {LABELS}",
    'name="a" class="a b"': f'class="a b": allowed are prim, both, second, sec, pre, or {LABELS}',
    'class="prim"': "name is missing: allowed is any text",
    'name="/bin/a" class="prim"': (
        'name="/bin/a": allowed is the name of a command without its folder'
    ),
    'name="0123456789abcdef" class="prim"': (
        'name="0123456789abcdef": allowed are at most 15 characters '
        "(the kernel keeps no more of a name; see nameregex)"
    ),
    'name="a b" nameregex="x" class="prim"': (
        'name="a b": allowed are letters, digits and _ . : -, at most 64'
    ),
    'name="a" class="prim" argregex="("': (
        'argregex="(": allowed are POSIX extended regular expressions '
        "(missing ), unterminated subpattern at position 0)"
    ),
    'name="a" class="prim" action="repair"': (
        'action="repair": allowed are restart, stopstart, stop, noaction in the class prim '
        "(a handler of one's own needs a class of its own, which a script enables "
        '(safekit errd enable "CLASS"))'
    ),
    'name="a" class="mine" action="../x"': (
        'action="../x": allowed are restart, stopstart, stop, noaction, an executable '
        "(absolute, or in bin)"
    ),
    'name="a" class="prim" cpu="90"': (
        'cpu="90": no documentation says what it means, so it is not carried out: take it out'
    ),
    'name="a" class="prim" service="true"': 'service="true": allowed are yes, no',
    'name="-p" class="prim" service="yes"': f'name="-p": {SERVICES}',
    'name="a*" class="prim" service="yes"': f'name="a*": {SERVICES}',
    f'name="{"x" * 64}" class="prim" service="yes"': f'name="{"x" * 64}": {SERVICES}',
    'name="a" class="prim" service="yes" argregex="x"': (
        'argregex="x": allowed is nothing for a service '
        '(systemd knows whether the unit runs; leave it out with service="yes")'
    ),
    'name="a" class="prim" service="yes" atleast="2"': (
        'atleast="2": allowed is nothing for a service '
        '(systemd knows whether the unit runs; leave it out with service="yes")'
    ),
    'name="a" class="prim" restart_services="b" action="restart"': (
        'restart_services="b": allowed is only together with service="yes" and action="restart"'
    ),
    'name="a" class="prim" service="yes" restart_services="b" action="stop"': (
        'restart_services="b": allowed is only together with service="yes" and action="restart"'
    ),
    'name="a" class="prim" service="yes" restart_services="b,,c" action="restart"': (
        f'restart_services="b,,c": {SERVICES}, with commas between them'
    ),
    'name="a" class="prim" atmax="0"': (
        'atmax="0": allowed is -1, or more than atleast '
        "(atleast is 1, and 1 running would already be too many)"
    ),
    'name="a" class="prim" atleast="3" atmax="3"': (
        'atmax="3": allowed is -1, or more than atleast '
        "(atleast is 3, and 3 running would already be too many)"
    ),
    'name="a" class="prim" atmax="-2"': 'atmax="-2": allowed are whole numbers from -1 to 1000000',
    'name="a" class="prim" start_after="-1"': (
        'start_after="-1": allowed are whole numbers from 0 to 1000000'
    ),
}


@pytest.mark.parametrize(("attributes", "said"), WRONG.items())
def test_what_is_refused(attributes: str, said: str) -> None:
    found = refusal(document(rest=f"<user/><errd>\n<proc {attributes}/></errd>"))
    assert found == f"userconfig.xml line 6: <proc> attribute {said}"


def test_a_name_is_a_resource() -> None:
    twice = '<proc name="a" class="pre"/><proc name="a" class="prim"/>'
    assert refusal(document(rest=f"<user/><errd>{twice}</errd>")).endswith(
        '<proc> attribute name="a": allowed is each name once '
        "(it names the resource; nameregex gives the same command another name)"
    )
