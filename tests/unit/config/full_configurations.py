"""Two configurations with every element and nearly every attribute that this version carries out:
one tag on each line, so that a line names what stands in it."""

MIRROR = """\
<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE safe>
<safe>
<macro name="DATA" value="/srv/db"/>
<macro name="SERVICES" value="front, worker"/>
<service mode="mirror" boot="auto" boot_delay="20s" defaultprim="lastprim" failover="on" \
maxloop="3" loop_interval="24h" automatic_reboot="off">
<heart port="8890" pulse="700" timeout="30s" permanent_arp="off">
<heartbeat name="default" ident="flow" pulse="500ms" timeout="20s"/>
<heartbeat name="private"/>
</heart>
<vip tcpreset="on">
<interface_list>
<interface check="on" arpreroute="on" arpinterval="60s" arpelapse="1200" name="eth0">
<real_interface>
<virtual_addr addr="192.0.2.50" where="one_side_alias" check="on" connections="on" \
netmask="255.255.255.0"/>
<virtual_addr addr="2001:db8::50" where="one_side"/>
</real_interface>
</interface>
</interface_list>
</vip>
<rfs async="second" nbrei="6" acl="on" locktimeout="100s" sendtimeout="30s" reitimeout="150s" \
reidetail="on" reicommit="16" reiallowedbw="40000" packetsize="1048576" reipacketsize="1048576" \
ruzone_blocksize="4194304" namespacepolicy="4" nbremconn="1" mountover="off" \
mountoversuffix="_real" checktime="220000" checkintv="120s" syncdelta="10m" syncat="01 0 * * *" \
scripts="on">
<flow name="default"/>
<replicated dir="%DATA%/main" mode="read_only">
<tocheck path="PG_VERSION"/>
<notreplicated path="pg_stat_tmp"/>
<notreplicated regexpath=".*\\.(tmp|bak)$"/>
</replicated>
<replicated dir="/srv/export"/>
</rfs>
<user nicestoptimeout="10m" forcestoptimeout="60s" logging="userlog" userlogsize="4096">
<var name="SERVICES" value="%SERVICES%"/>
</user>
<vhost>
<virtualhostname name="appsrv" envfile="vhostenv" when="prim"/>
</vhost>
<errd polltimer="10s">
<proc name="postgres" argregex=".*-D /srv/db.*" atleast="1" atmax="8" action="stopstart" \
class="prim" start_after="3"/>
<proc name="ora" nameregex="ora_.*" action="restart" class="prim"/>
<proc name="worker" service="yes" action="restart" restart_services="worker" class="both"/>
<proc name="agent" action="restart_agent" class="agent"/>
</errd>
<check>
<tcp ident="sql" when="prim" action="restart">
<to addr="127.0.0.1" port="5432" interval="15s" timeout="3s"/>
</tcp>
<ping ident="router" when="pre" action="wait">
<to addr="192.0.2.1" interval="10s" timeout="5s"/>
</ping>
<intf ident="lan0" when="pre">
<to local_addr="192.0.2.11"/>
</intf>
<ip ident="vip0" when="prim">
<to addr="192.0.2.50" interval="10s" conflict="down"/>
</ip>
<custom ident="licence" when="pre" exec="licence.sh" arg="/etc/licence 30" action="wait"/>
<module name="database" ident="db">
<to addr="192.0.2.51" port="9010" interval="10s" timeout="5s" secure="off"/>
</module>
<splitbrain ident="witness" when="pre" exec="ping" arg="192.0.2.1 203.0.113.1"/>
<disk ident="data" when="prim" action="stopstart">
<to dir="/srv/data" minfree="5%" maxlatency="2s"/>
</disk>
<delay when="both" action="noaction">
<to max="1s"/>
</delay>
</check>
<failover extends="yes" period="5s" handle_time="15s">
<![CDATA[
own: if (custom.licence == down && tcp.sql == down) then stopstart();
]]>
</failover>
</service>
</safe>
"""

LIGHT = """\
<!DOCTYPE safe>
<safe>
<service mode="light" boot="on">
<user/>
<vhost>
<virtualhostname name="appsrv" envfile="vhostenv" when="both"/>
</vhost>
<errd>
<proc name="sidecar" service="yes" action="restart" class="both"/>
</errd>
<check>
<module name="leader"/>
<custom ident="licence" when="pre" exec="licence.sh" action="wait"/>
<tcp ident="web" when="both" action="restart">
<to addr="::1" port="80"/>
</tcp>
</check>
<failover period="5s" handle_time="15s">
<![CDATA[
own: if (custom.licence == down) then stop();
]]>
</failover>
</service>
</safe>
"""
