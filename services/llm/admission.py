"""Who waits, who may, and who goes next: fair among tenants, interactive before batch, bounded.

- Next is by deficit round robin (Shreedhar and Varghese, 1995): a tenant whose account is positive goes on, one that has
  used it up gets QUANTUM tokens and waits for the others to have had their turn. An account pays for what is computed.
- Interactive streams go before batch ones, but one in BATCH_TURN goes to batch where both wait.
- A tenant may have GREED times as many streams waiting as there are places left (dynamic thresholds, Choudhury and Hahne,
  1998), so that however many flood, the next tenant finds a place.
- A tenant that comes while others hold all slots, or an interactive stream while batch ones do, need not wait until one of
  them ends: see Admission.give_way.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator

from runtime.errors import Busy, Retryable
from services.llm.stream import Stream

QUANTUM = 256.0
BATCH_TURN = 8
GREED = 3
# Debts of tenants that have nothing open are kept for so many of them.
ACCOUNTS = 1024
GUESS_S = 1.0


class ModelBusy(Busy):
    """As many requests of a tenant wait as may wait. limit: how many that is now; retry_after_s: when one more may fit."""

    def __init__(self, limit: int, *, tenant: str = "default", retry_after_s: float = GUESS_S) -> None:
        super().__init__(
            f"The model has {limit} requests of {tenant} waiting and takes no more now.",
            why="they come faster than it can answer",
            hint=f"try again in {retry_after_s:.0f} s, start another llm service, or raise its queue limit",
        )
        self.limit = limit
        self.tenant = tenant
        self.retry_after_s = retry_after_s


class EngineStopped(Retryable):
    """The engine was closed while the request waited or ran."""

    def __init__(self) -> None:
        super().__init__("The model was stopped.", hint="milepost status")


class Admission:
    """The waiting room before `slots` slots; safe for many threads.

    max_waiting: how many one tenant may have waiting when nobody else does; all together at most a third more.
    """

    def __init__(self, *, slots: int, max_waiting: int) -> None:
        self._slots, self._max_waiting = slots, max_waiting
        self._accounts: OrderedDict[str, float] = OrderedDict()
        self._interactive, self._batch = _Lane(self._accounts), _Lane(self._accounts)
        self._since_batch = 0
        self._running: dict[Stream, None] = {}
        self._holds: Counter[str] = Counter()
        self._newcomers: OrderedDict[str, None] = OrderedDict()
        self._stay_s = GUESS_S
        self._closed = self._woken = False
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._interactive) + len(self._batch)

    @property
    def closed(self) -> bool:
        """Whether nobody is taken any more."""
        return self._closed

    def enter(self, stream: Stream) -> None:
        """Wait for a slot. Raises ModelBusy and EngineStopped."""
        tenant = stream.terms.tenant
        with self._changed:
            if self._closed:
                raise EngineStopped
            # Those for whom a slot is free do not wait, they have only not been fetched yet.
            free = self._slots - len(self._running)
            own = self._interactive.count(tenant) + self._batch.count(tenant) - free
            if own >= (GREED + 1) * self._max_waiting - GREED * max(0, self.waiting - free):
                raise ModelBusy(max(0, own), tenant=tenant, retry_after_s=self._wait_s())
            self._lane(stream).add(stream)
            if not self._holds[tenant] and not stream.terms.batch:
                self._newcomers[tenant] = None
            self._changed.notify()
        stream.done.add_done_callback(lambda _: self.leave(stream))

    def leave(self, stream: Stream) -> None:
        """It has ended, or nobody wants it any more."""
        with self._changed:
            if stream in self._running:
                self._release(stream)
            else:
                self._lane(stream).remove(stream)

    def wait(self) -> None:
        """Until somebody waits, or close() or wake() is called."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.waiting or self._woken)
            self._woken = False

    def wake(self) -> None:
        """Let who waits look round."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def take(self) -> Stream | None:
        """The stream to run next."""
        with self._changed:
            lanes = [self._interactive, self._batch]
            if self._since_batch >= BATCH_TURN - 1:
                lanes.reverse()
            stream = lanes[0].pop() or lanes[1].pop()
            if stream is None:
                return None
            self._since_batch = self._since_batch + 1 if len(self._batch) and not stream.terms.batch else 0
            stream.settled |= stream.terms.batch and len(self._interactive) > 0  # it was its turn
            self._claim(stream)
            return stream

    def give_way(self) -> tuple[Stream, Stream] | None:
        """(who gives way, who runs instead) where all slots are held; None when nobody should.

        A batch stream gives way to an interactive one, and a stream of a tenant that holds several slots to the first one of
        a tenant that holds none. It is the one that has run for the shortest time, each one once, a certified one never. It
        goes back to the head of its queue, to go on from where it was.
        """
        with self._changed:
            while self._newcomers:
                tenant, _ = self._newcomers.popitem(last=False)
                if not self._holds[tenant] and self._interactive.count(tenant):
                    loser = self._of_batch() or self._of_several()
                    return self._swap(loser, self._interactive.pop_of(tenant)) if loser else None
            loser = self._of_batch() if len(self._interactive) else None
            return self._swap(loser, self._interactive.pop()) if loser else None

    def charge(self, stream: Stream, tokens: int) -> None:
        """A tenant pays for tokens that were computed for it beyond its prompts; negative gives back."""
        with self._changed:
            self._accounts[stream.terms.tenant] = self._accounts.get(stream.terms.tenant, QUANTUM) - tokens

    def stayed(self, seconds: float) -> None:
        """A stream held its slot for so long."""
        self._stay_s += 0.2 * (seconds - self._stay_s)

    def late(self) -> list[Stream]:
        """Those whose deadline has passed while they waited; they wait no longer."""
        with self._changed:
            return self._remove(stream for stream in [*self._interactive, *self._batch] if stream.terms.late())

    def close(self) -> None:
        """Take nobody any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def empty(self) -> list[Stream]:
        """All that still wait or run, whether they have been seated or not; they wait no longer."""
        with self._changed:
            return self._remove([*self._interactive, *self._batch, *self._running])

    def _remove(self, streams: Iterable[Stream]) -> list[Stream]:
        gone = list(streams)
        for stream in gone:
            self._lane(stream).remove(stream)
        return gone

    def _lane(self, stream: Stream) -> _Lane:
        return self._batch if stream.terms.batch else self._interactive

    def _wait_s(self) -> float:
        """Seconds until one more of a tenant's streams gets a slot: one of every other tenant that waits comes before."""
        return self._stay_s / self._slots * max(1, self._interactive.tenants, self._batch.tenants)

    def _claim(self, stream: Stream) -> None:
        tenant = stream.terms.tenant
        self._running[stream] = None
        self._holds[tenant] += 1
        self._newcomers.pop(tenant, None)
        self._accounts[tenant] = self._accounts.get(tenant, QUANTUM) - len(stream.pending)
        self._accounts.move_to_end(tenant)
        while len(self._accounts) > ACCOUNTS + self.waiting:
            self._accounts.popitem(last=False)

    def _release(self, stream: Stream) -> None:
        del self._running[stream]
        tenant = stream.terms.tenant
        self._holds[tenant] -= 1
        if not self._holds[tenant]:
            del self._holds[tenant]

    def _swap(self, loser: Stream, winner: Stream | None) -> tuple[Stream, Stream] | None:
        if winner is None:
            return None
        loser.settled = True
        self._release(loser)
        self._lane(loser).add(loser, first=True)
        self._claim(winner)
        return loser, winner

    def _movable(self) -> list[Stream]:
        return [stream for stream in self._running if not (stream.settled or stream.certified or stream.done.done())]

    def _of_batch(self) -> Stream | None:
        return next((stream for stream in reversed(self._movable()) if stream.terms.batch), None)

    def _of_several(self) -> Stream | None:
        """The youngest stream of the tenant with most slots, where that is two or more."""
        movable = self._movable()
        most = max((self._holds[stream.terms.tenant] for stream in movable), default=0)
        return next((stream for stream in reversed(movable) if 1 < most == self._holds[stream.terms.tenant]), None)


class _Lane:
    """Streams that wait, each tenant's in the order they came. accounts: tokens that a tenant may use before the others."""

    def __init__(self, accounts: OrderedDict[str, float]) -> None:
        self._accounts = accounts
        self._queues: OrderedDict[str, OrderedDict[Stream, None]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Stream]:
        for queue in self._queues.values():
            yield from queue

    @property
    def tenants(self) -> int:
        """How many tenants wait."""
        return len(self._queues)

    def count(self, tenant: str) -> int:
        """How many of a tenant wait."""
        return len(self._queues.get(tenant, ()))

    def add(self, stream: Stream, *, first: bool = False) -> None:
        """Wait behind the tenant's others, or before them."""
        queue = self._queues.setdefault(stream.terms.tenant, OrderedDict())
        queue[stream] = None
        queue.move_to_end(stream, last=not first)
        self._size += 1

    def remove(self, stream: Stream) -> None:
        """Wait no longer, if it does."""
        queue = self._queues.get(stream.terms.tenant)
        if queue is None or stream not in queue:
            return
        del queue[stream]
        self._size -= 1
        if not queue:
            del self._queues[stream.terms.tenant]

    def pop(self) -> Stream | None:
        """The next one by deficit round robin."""
        while self._queues:
            tenant = next(iter(self._queues))
            if self._accounts.setdefault(tenant, QUANTUM) > 0:
                return self.pop_of(tenant)
            self._accounts[tenant] += QUANTUM
            self._queues.move_to_end(tenant)
        return None

    def pop_of(self, tenant: str) -> Stream:
        """The tenant's first one."""
        stream = next(iter(self._queues[tenant]))
        self.remove(stream)
        return stream
