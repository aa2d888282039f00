"""Makes a Snapshot out of the caches: reads memory only.

What is costly to read is read once (the spec, a revision's record).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import msgspec

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
    _specs: dict[str, tuple[bytes, ParsedSpec]] = field(default_factory=dict)
    _records: dict[str, tuple[str, str, Revision | None]] = field(default_factory=dict)

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
        known, form = self._specs.get(omni.uid), msgspec.json.encode(omni.spec)
        if known is not None and known[0] == form:
            return known[1]
        parsed = parse(omni.spec)
        self._specs[omni.uid] = (form, parsed)
        return parsed

    def _read(self, omni: Omni, child: Child, load: Callable[..., Revision]) -> Revision | None:
        known = self._records.get(child.uid)
        if known is None or known[1] != child.resource_version:
            made = None
            try:
                made = load(name=child.labels.get(REVISION, ""), annotations=child.annotations, body=child.body)
            except UnreadableRevisionError as exc:
                what = f"{child.kind} {child.namespace}/{child.name}"
                _log.error("%s is not the record of a revision that this operator can read: %s", what, exc)
            known = self._records[child.uid] = (omni.uid, child.resource_version, made)
        return known[2]
