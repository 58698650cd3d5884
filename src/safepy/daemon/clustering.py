"""The verbs of the cluster's configuration and key (reference 13.8, 17; protocol S1, S6)."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from safepy.config import cluster as cluster_config
from safepy.config.schema import Cluster
from safepy.daemon import configuring, site
from safepy.daemon.node import Node
from safepy.errors import ConfigError, RequestRefused
from safepy.model import State
from safepy.wire.secure import fingerprint

JsonObject = dict[str, Any]


class Clustering:
    """Mixed into the manager; see there."""

    _node: Node
    _changing: asyncio.Lock

    async def cluster_config(self, document: bytes | None, source: str) -> list[str]:
        """Apply a cluster.xml (None: the active one again); `source` names it in errors.
        Returns notes. Refused without a cluster key, or while modules run that it concerns."""
        async with self._changing:
            node = self._node
            await node.refresh_site()
            node.site.require_key()
            data = await self._document(document)
            cluster = cluster_config.parse(data, source or str(node.paths.cluster_xml))
            own = await asyncio.to_thread(site.own_name, cluster, node.site.settings)
            absent = await asyncio.to_thread(site.absent_addresses, cluster, own)
            if self._differs(cluster):
                self._require_all_stopped("the cluster cannot be changed")
            path = str(node.paths.cluster_xml)
            await asyncio.to_thread(site.replace_file, path, data, 0o644)
            await node.reload()
            key = fingerprint(node.site.require_key())
            return [f"this node is {own}", *absent, f"key {key}"]

    async def cluster_confcheck(self, document: bytes, source: str) -> list[str]:
        """Check only."""
        cluster = cluster_config.parse(document, source)
        own = await asyncio.to_thread(site.own_name, cluster, self._node.site.settings)
        return [
            f"this node is {own}",
            *await asyncio.to_thread(site.absent_addresses, cluster, own),
        ]

    async def cluster_deconfig(self) -> None:
        """Remove the cluster configuration and the key. Only when all modules are STOP."""
        async with self._changing:
            self._require_all_stopped("the cluster cannot be deconfigured")
            paths = self._node.paths
            for path in (paths.cluster_xml, paths.cluster_key):
                path.unlink(missing_ok=True)
            await self._node.reload()

    async def cluster_confinfo(self) -> JsonObject:
        """As `admin.values.ClusterInfo`; fingerprint "" without a key."""
        await self._node.refresh_site()
        here = self._node.site
        cluster, key = here.cluster, here.key
        return {
            "node": here.node,
            "cluster_id": "" if cluster is None else cluster.cluster_id,
            "signature": "" if cluster is None else cluster.cluster_id,
            "date": None if cluster is None else os.stat(here.paths.cluster_xml).st_mtime,
            "lock": False,
            "fingerprint": "" if key is None else fingerprint(key),
            "nodes": () if cluster is None else cluster.node_names,
        }

    async def cluster_genkey(self, force: bool = False) -> str:
        """Make SAFEVAR/cluster/cluster.key (0600) and return its fingerprint. An existing key is
        replaced only with `force`, and only when all modules are STOP."""
        async with self._changing:
            node = self._node
            if node.paths.cluster_key.exists():
                if not force:
                    raise RequestRefused(
                        "there is a cluster key already",
                        "with --force it is replaced, and the other nodes need the new one",
                    )
                self._require_all_stopped("the cluster key cannot be replaced")
            key = await asyncio.to_thread(site.make_key, node.paths)
            await node.reload()
            return fingerprint(key)

    async def cluster_state(self) -> list[JsonObject]:
        """The modules of this node, as `admin.values.ClusterModule`; the signature is that of
        `confinfo`."""
        lines = []
        for module in self._node:
            paths = module.plan.paths
            made = configuring.generated_names(paths)
            found = await asyncio.to_thread(configuring.signature, paths.conf, paths.bin, made)
            mine = {
                "node": module.plan.node,
                "module": module.name,
                "mode": module.plan.config.mode,
                "id": module.plan.module_id,
                "date": paths.safeconf.stat().st_mtime,
                "signature": "" if found is None else found[0],
            }
            lines.append(mine)
        return lines

    async def _document(self, document: bytes | None) -> bytes:
        if document is not None:
            return document
        try:
            return await asyncio.to_thread(self._node.paths.cluster_xml.read_bytes)
        except FileNotFoundError:
            raise ConfigError(
                f"there is no {self._node.paths.cluster_xml}", "safekit cluster config FILE"
            ) from None

    def _differs(self, cluster: Cluster) -> bool:
        return any(module.cluster_id != cluster.cluster_id for module in self._node)

    def _require_all_stopped(self, what: str) -> None:
        running = [each.name for each in self._node if each.snapshot.state is not State.STOP]
        if running:
            raise RequestRefused(
                f"{what} while modules run: {', '.join(running)}",
                " and ".join(f"safekit stop -m {name}" for name in running),
            )
