"""`NodeGroupTrigger` waits in the triggerer for a node group to become ready, or to be gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from kpo_multicluster.errors import ConfigurationError, KpoMulticlusterError
from kpo_multicluster.hooks.node_groups import NodeGroupWait, open_groups, until
from kpo_multicluster.pods.failures import failure_to_json
from kpo_multicluster.triggers.clusters import hook_of, hub_of, off_loop, placed
from kpo_multicluster.triggers.killed import KILL_SECONDS, carried_through
from kpo_multicluster.triggers.leases import Leases

if TYPE_CHECKING:
    from kpo_multicluster.node_groups.lifecycle import NodeGroups


class NodeGroupTrigger(BaseTrigger):
    """Waits for a node group, and fires one event: `status` is `success` or `error`.

    Args:
        cluster: by `stored_cluster`.
        wait: by `NodeGroupWait.to_json`.
    """

    def __init__(self, cluster: Mapping[str, Any], wait: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cluster = cluster
        self.wait = wait
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and what it was given."""
        return f"{__name__}.NodeGroupTrigger", {"cluster": self.cluster, "wait": self.wait}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Waits; yields the one event."""
        try:
            wait = NodeGroupWait.from_json(self.wait)
            await self._waited(wait)
            event: dict[str, Any] = {"status": "success", "result": wait.result}
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except KpoMulticlusterError as error:
            event = {"status": "error", "failure": failure_to_json(placed(error))}
        except BaseException as error:
            self.log.error("The trigger failed", exc_info=error)
            failure = KpoMulticlusterError(f"The trigger failed: {type(error).__name__}: {error}")
            event = {"status": "error", "failure": failure_to_json(placed(failure))}
        self._fired = True
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _waited(self, wait: NodeGroupWait) -> None:
        async with contextlib.AsyncExitStack() as stack:
            groups = await stack.enter_async_context(_groups_of(self.cluster))
            api = None
            if wait.see_nodes and not wait.gone:
                api = (await stack.enter_async_context(hub_of(self.cluster))).api
            async with aclosing(until(groups, wait, api)) as reports:
                async for report in reports:
                    level = logging.WARNING if report.warning else logging.INFO
                    # A log's handlers may block.
                    await asyncio.to_thread(self.log.log, level, "%s", report)

    async def on_kill(self) -> None:
        """Removes what was made for the run of a task that a user has ended (Airflow 3.3 and newer)."""
        try:
            wait = NodeGroupWait.from_json(self.wait)
        except ConfigurationError as error:
            self.log.error("The node group of the ended task cannot be deleted: %s", error)
            return
        if self._fired or wait.undo_run is None:
            return
        if not await carried_through(self._delete(wait), name=f"delete node group {wait.name}"):
            self.log.error("Node group %r could not be deleted in time: 'kpo-multicluster reap' finds it.", wait.name)

    async def _delete(self, wait: NodeGroupWait) -> None:
        try:
            async with _groups_of(self.cluster) as groups:
                await groups.delete(wait.name, run=wait.undo_run, timeout_seconds=KILL_SECONDS)
        except Exception as error:  # noqa: BLE001 - told, whatever it is: no one else will
            self.log.error("Node group %r is not deleted and may cost money: %s", wait.name, error)
        else:
            self.log.info("The task was ended by a user. Node group %r is being deleted.", wait.name)


def _groups_of(cluster: Mapping[str, Any]) -> AbstractAsyncContextManager[NodeGroups]:
    """The node groups of a cluster, with one login for all triggers that are at them at the same time."""
    # Looks connections up, and imports a cloud's library.
    opened = partial(off_loop, lambda: open_groups(hook_of(cluster)))
    return _groups.lease(json.dumps(cluster, sort_keys=True), opened)


_groups: Final[Leases[NodeGroups]] = Leases()
