"""Members of a group that come and go while records arrive, for clients that run in threads."""

import threading

from cases import equal, until

PARTITIONS = 4


class Progress:
    """What the members of a group have seen of a topic, and what was sent to it."""

    def __init__(self):
        self._lock = threading.Lock()
        self.seen, self.sent = [0] * PARTITIONS, [0] * PARTITIONS

    def see(self, partition, offset):
        """Fails where records were passed over: one of them comes before all earlier ones."""
        with self._lock:
            reached = self.seen[partition]
            assert offset <= reached, f"partition {partition}: {offset} came before {reached}"
            self.seen[partition] = max(reached, offset + 1)

    def send(self, partition, offset):
        with self._lock:
            self.sent[partition] = max(self.sent[partition], offset + 1)


def join_and_leave_under_load(feed, member, committed):
    """Members join and leave; at the end all was read, each partition has one owner, and what is
    committed is all that was sent.

    `feed(send)` sends a record to each partition and tells `send(partition, offset)`.
    `member(name)` is a context that gives `turn(see)`, which polls once, tells
    `see(partition, offset)`, commits, and returns the partitions that the member has.
    `committed()` returns the committed offsets of all partitions.
    """
    progress, owned, failures, stop = Progress(), {}, [], threading.Event()
    leaving, threads = {}, []

    def in_thread(body):
        def guarded():
            try:
                body()
            except Exception as error:  # noqa: BLE001 (told by the main thread)
                failures.append(error)
        threads.append(threading.Thread(target=guarded))
        threads[-1].start()

    def feeder():
        while not stop.wait(0.02):
            feed(progress.send)

    def join(name):
        leave = leaving[name] = threading.Event()

        def body():
            with member(name) as turn:
                while not leave.is_set():
                    owned[name] = set(turn(progress.see))
            owned.pop(name, None)
        in_thread(body)

    def shared(*names):
        def condition():
            equal(failures, [], "failures")
            shares = [owned.get(name, set()) for name in names]
            whole = set().union(*shares)
            return all(shares) and sum(map(len, shares)) == PARTITIONS == len(whole)
        until(condition, f"{names} share the partitions", 60)

    try:
        in_thread(feeder)
        join("one")
        shared("one")
        join("two")
        join("three")
        shared("one", "two", "three")
        leaving["two"].set()
        shared("one", "three")
        join("four")
        shared("one", "three", "four")
        stop.set()
        threads[0].join()
        until(lambda: failures or progress.seen == progress.sent, "everything is read", 60)
        until(lambda: failures or committed() == progress.sent, "everything is committed")
    finally:
        stop.set()
        for leave in leaving.values():
            leave.set()
        for thread in threads:
            thread.join()
    equal(failures, [], "failures")
