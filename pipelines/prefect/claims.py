"""Several machines at one experiment: each stage is done by one of them, and what it made lies on the DVC remote.

A clone that has a default DVC remote claims a stage on the Prefect server before it runs it, and pushes it afterwards;
the next clone that comes to the stage pulls it. A claim is a Prefect global concurrency limit of one slot, held by a
lease: a machine that dies loses it when the lease ends. Prefect's own `concurrency` gives up a lease at the first
outage of the server that lasts longer than a few seconds; this one asks again until the server answers.

Without a remote nothing here does anything; without a Prefect server there is nobody to claim from.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from pipelines.dvc import remote
from pipelines.dvc.reproduce import StorageError
from pipelines.prefect import internals
from pipelines.prefect.internals import LeaseEndedError, Slot, SlotTakenError
from pipelines.prefect.server import address
from stages.runtime import keys

LEASE = 60  # seconds after which a dead holder's claim is free; the least that Prefect allows
RENEWAL = 15  # seconds between renewals
PATIENCE = 10  # seconds that giving a claim back may take; without an answer its lease ends by itself

_inputs = threading.Lock()  # DVC's `Repo` is not made for threads


class ClaimedError(Exception):
    """Another machine holds the stage. Nothing was run; try again later."""


@contextmanager
def claimed(stage: str, say: Callable[[str], None] = print) -> Iterator[None]:
    """Hold a stage, with the inputs it has here, for this machine while the block runs.

    Raises:
        ClaimedError: at once, where another machine (or another flow of this one) holds it.
        StorageError: the Prefect server does not answer, or refuses.
    """
    if not remote.name() or not address():
        yield
        return
    with _inputs:
        name = f"claim:{keys.key(stage, keys.live_inputs(stage))}"
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
    """An answer within seconds or an error: Prefect's client would ask again for longer than a lease.

    It asks twice more, after 2 and 4 seconds: a server on SQLite answers 503 where another transaction came first.
    """
    return temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 2})


class _Claim:
    def __init__(self, client: SyncPrefectClient, name: str):
        self._client, self._name = client, name
        self._slot: Slot

    def take(self) -> None:
        """The limit may be removed by its last holder between its creation and its use: then again."""
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
        """Renew the lease while the block runs, however long the server is away, and give the claim back after it."""
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
        """Remove the limit while it is surely held, then the lease: nobody can have taken it in between."""
        self._renew()
        with suppress(httpx.HTTPStatusError):
            internals.delete_limit(self._client, self._slot)
        internals.release_slot(self._client, self._slot)
