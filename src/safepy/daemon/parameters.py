"""What the core is told of a module: its configuration, what an operator switched, and what an
earlier run of the daemon left behind."""

from __future__ import annotations

from safepy.core.state import Lane, Params
from safepy.daemon.checking import arbitration_of, tested
from safepy.daemon.plan import Plan
from safepy.daemon.remembered import remembered, setting
from safepy.host.clock import Clock
from safepy.storage.resources import Resources


def params_of(
    plan: Plan, cluster_id: str, session: str, boot_id: str, resources: Resources, clock: Clock
) -> Params:
    """`session` is of this run of the daemon, `boot_id` of this one of the host."""
    config = plan.config
    user, rfs = config.user, config.rfs
    known = remembered(resources, clock)
    return Params(
        module=plan.name,
        node=plan.node,
        peer=plan.peer,
        cluster_id=cluster_id,
        lanes=tuple(Lane(b.ident, b.pulse_s, b.timeout_s) for b in config.heartbeats),
        session=session,
        boot_id=boot_id,
        mode=config.mode,
        automatic_reboot=config.automatic_reboot,
        loop=known.loop,
        fault=known.fault,
        maintenance=known.maintenance,
        has_rfs=config.rfs is not None,
        has_scripts=user is not None,
        failover=setting(resources, "failover", config.failover),
        defaultprim=config.defaultprim,
        maxloop=config.maxloop,
        loop_interval_s=config.loop_interval_s,
        nicestop_s=300.0 if user is None else user.nicestoptimeout_s,
        forcestop_s=300.0 if user is None else user.forcestoptimeout_s,
        checking=setting(resources, "checker", True),
        checks=tested(config.checks),
        rules=config.rules,
        failover_period_s=config.failover_period_s,
        handle_time_s=config.handle_time_s,
        resources={each.name: each.value for each in resources.all()},
        arbitration=arbitration_of(config.checks),
        errd_classes=frozenset(proc.checker_class for proc in config.errd.procs),
        syncdelta_s=0.0 if rfs is None else rfs.syncdelta_s,
        syncat=rfs is not None and bool(rfs.syncat),
        callbacks=rfs is not None and rfs.callbacks,
        has_vip=config.vip is not None,
        config_digest=config.digest,
        wall_offset_s=clock.wall() - clock.boottime(),
        aligned_pulses=True,
    )
