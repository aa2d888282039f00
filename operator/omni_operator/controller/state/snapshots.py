"""Makes a Snapshot out of the caches: reads memory only.

What is costly to read is read once (the spec, a revision's record).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from omni_operator.children.names import REVISION
from omni_operator.children.revision import Revision, UnreadableRevisionError
from omni_operator.controller.state.build import build_snapshot, parse, referenced_cluster
from omni_operator.controller.state.objects import Child, Omni
from omni_operator.controller.state.signals import Signals
from omni_operator.controller.state.snapshot import ParsedSpec, Snapshot
from omni_operator.controller.state.store import Store

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Snapshots:
    """Takes snapshots, and keeps what it has parsed while the source is the same.

    Attributes:
        store: The caches.
        signals: Results of background work of an OmniDeployment, by its uid.
    """

    store: Store
    signals: Callable[[str], Signals]
    _specs: dict[str, tuple[dict[str, Any], ParsedSpec]] = field(default_factory=dict)
    _records: dict[str, tuple[str, Revision | None]] = field(default_factory=dict)

    def take(self, omni: Omni, *, now: datetime) -> Snapshot:
        """The snapshot of this moment."""
        store, clusters = self.store, self.store.children["RayCluster"]
        reference = referenced_cluster(omni)
        return build_snapshot(
            omni,
            now=now,
            parsed=self._parsed(omni),
            children=store.children_of(omni.key),
            pods=store.pods_of(omni.key),
            node=partial(store.nodes.get, ""),
            namespace=store.namespaces.get("", omni.namespace),
            load_record=partial(self._read, omni),
            signals=self.signals(omni.uid),
            referenced=clusters.get(omni.namespace, reference) if reference else None,
            kuberay_missing=clusters.missing,
            namespace_error=store.namespaces.error,
        )

    def forget(self, uid: str) -> None:
        """Drops what was parsed of an OmniDeployment that is gone."""
        self._specs.pop(uid, None)
        self._records = {source: entry for source, entry in self._records.items() if entry[0] != uid}

    def _parsed(self, omni: Omni) -> ParsedSpec:
        known = self._specs.get(omni.uid)
        if known is not None and known[0] == omni.spec:
            return known[1]
        parsed = parse(omni.spec)
        self._specs[omni.uid] = (omni.spec, parsed)
        return parsed

    def _read(self, omni: Omni, child: Child, load: Callable[..., Revision]) -> Revision | None:
        source = f"{child.uid}/{child.resource_version}"
        if source not in self._records:
            made = None
            try:
                made = load(name=child.labels.get(REVISION, ""), annotations=child.annotations, body=child.body)
            except UnreadableRevisionError as exc:
                what = f"{child.kind} {child.namespace}/{child.name}"
                _log.error("%s is not the record of a revision that this operator can read: %s", what, exc)
            self._records[source] = (omni.uid, made)
        return self._records[source][1]
