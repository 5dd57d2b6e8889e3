"""What transitions publish, against what stands on the streams."""

from collections import defaultdict
from collections.abc import Sequence

from redis import Redis

from dispatch import ids
from dispatch.ids import EntryId, ThreadId
from tests.streams.scene import Read


class Channels:
    """Hears every thread's channel."""

    def __init__(self, redis: "Redis") -> None:
        self._pubsub = redis.pubsub()
        self._pubsub.psubscribe("arbe-thread-*")
        self._told: dict[str, list[EntryId]] = defaultdict(list)
        self._checked: dict[str, str] = defaultdict(str)

    def clear(self) -> None:
        self.listen()
        self._told.clear()
        self._checked.clear()

    def listen(self) -> None:
        """Take in all that was published before this call."""
        self._pubsub.ping()
        while True:
            message = self._pubsub.get_message(timeout=30)
            assert message is not None
            if message["type"] == "pong":
                return
            if message["type"] == "pmessage" and not message["data"].startswith(b"{"):
                lines = message["data"].split(b"\n")
                self._told[message["channel"].decode()] += [
                    ids.entry_id_of(line.partition(b" ")[0].decode()) for line in lines
                ]

    def forget(self, thread_id: ThreadId, *, last: str) -> None:
        """Count what stands up to an entry as told."""
        self.listen()
        self._told[f"arbe-thread-{thread_id}"].clear()
        self._checked[f"arbe-thread-{thread_id}"] = last

    def check(self, thread_id: ThreadId, stream: Sequence[Read]) -> None:
        """Whatever is new on the stream was told, in order, and nothing else that lasts."""
        name = f"arbe-thread-{thread_id}"
        new = [entry.id for entry in stream if entry.id > self._checked[name]]
        stands = {entry.id for entry in stream}
        told = [each for each in self._told[name] if each in stands]
        assert told == new, "followers are told of each entry, once, in order"
        self._told[name].clear()
        self._checked[name] = stream[-1].id if stream else ""

    def close(self) -> None:
        self._pubsub.close()
