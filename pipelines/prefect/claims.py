"""Several machines work on one experiment: one of them runs each stage, and the others pull its outputs.

A clone that has a default DVC remote claims a stage on the Prefect server before it runs it, and pushes its outputs
afterwards. The next clone that comes to the stage pulls them. A claim is a global concurrency limit of Prefect with one
slot, held by a lease: a machine that dies loses it when the lease ends. Prefect's own `concurrency` gives up a lease
where the server is away for more than a few seconds; a claim asks again until the server answers.

The claim of a stage is made of its bare name and its inputs, so it is the same in two experiments that make the same.
Without a DVC remote or a Prefect server, nothing is claimed.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from pipelines.dvc import remote, stage_name
from pipelines.dvc.reproduce import StorageError
from pipelines.prefect import internals
from pipelines.prefect.internals import LeaseEndedError, Slot, SlotTakenError
from pipelines.prefect.server import address
from stages.runtime import experiments, keys

LEASE = 60  # seconds after which the claim of a dead machine is free; the least that Prefect allows
RENEWAL = 15  # seconds between renewals
PATIENCE = 10  # seconds for giving a claim back; where the server does not answer, the lease ends by itself

_inputs = threading.Lock()  # DVC's `Repo` is not made for threads


class ClaimedError(Exception):
    """Another machine holds the stage. Nothing was run; try again later."""


@contextmanager
def claimed(stage: str, say: Callable[[str], None] = print) -> Iterator[None]:
    """Hold a stage, with the inputs that it has here, for this machine while the block runs.

    Raises:
        ClaimedError: at once, where another machine, or another flow on this one, holds it.
        StorageError: the Prefect server does not answer, or refuses.
    """
    if not remote.name() or not address():
        yield
        return
    with _inputs:
        experiment, bare = stage_name.split(stage)
        name = f"claim:{keys.key(bare, keys.live_inputs(bare, experiments.folder(experiment)))}"
    with get_client(sync_client=True) as client:
        claim = _Claim(client, name)
        try:
            with _soon():
                claim.take()
        except httpx.HTTPError as error:
            raise StorageError(
                f"the Prefect server {address()} did not take the claim of {stage}: {error!r}"
            ) from error
        with claim.kept(say):
            yield


def _soon() -> AbstractContextManager:
    """Have Prefect's client answer or fail within seconds. By default it would try for longer than a lease.

    It still tries twice more, after 2 and 4 seconds: a server on SQLite answers 503 while another transaction writes.
    """
    return temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 2})


class _Claim:
    def __init__(self, client: SyncPrefectClient, name: str):
        self._client, self._name = client, name
        self._slot: Slot

    def take(self) -> None:
        """Make the limit and take its slot. Where its last holder removes the limit in between, do it again."""
        slot = None
        while slot is None:
            with suppress(ObjectAlreadyExists):
                self._client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=self._name, limit=1))
            try:
                slot = internals.take_slot(self._client, self._name, LEASE)
            except SlotTakenError:
                raise ClaimedError(
                    f"another machine has {self._name.removeprefix('claim:')}. If there is none: "
                    f"`prefect global-concurrency-limit delete '{self._name}'`"
                ) from None
        self._slot = slot

    @contextmanager
    def kept(self, say: Callable[[str], None]) -> Iterator[None]:
        """Renew the lease while the block runs, however long the server is away. Then give the claim back."""
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended, say), name=self._name, daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join(PATIENCE)

    def _keep(self, ended: threading.Event, say: Callable[[str], None]) -> None:
        try:
            with _soon():
                while not ended.wait(RENEWAL):
                    with suppress(httpx.HTTPError):
                        self._renew()
                with suppress(httpx.HTTPError, RuntimeError):  # RuntimeError: closed, as nobody waits any longer
                    self._give_back()
        except ClaimedError:
            say(f"{self._name} ended while the Prefect server was away, and another machine took the stage too")

    def _renew(self) -> None:
        try:
            internals.renew_slot(self._client, self._slot, LEASE)
        except LeaseEndedError:  # while the server was away
            self.take()

    def _give_back(self) -> None:
        """Remove the limit while its slot is certainly held, then release the slot: nobody can take it in between."""
        self._renew()
        with suppress(httpx.HTTPStatusError):
            internals.delete_limit(self._client, self._slot)
        internals.release_slot(self._client, self._slot)
