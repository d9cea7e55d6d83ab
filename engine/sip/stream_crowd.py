"""What waits on streams when more comes than can be carried: a new 911 first, all else of a stream in its order. Pure.

TCP and TLS keep what they carry in order, and a dialog may count on it: only a new emergency request leaves its place,
with nothing of its own before it. All other messages of a stream stay in a row. Of the rows those go first whose next
message is of work already begun, one message of each in turn. A new ordinary request that waited as long as it may on
UDP (`crowd.PATIENCE_S`) is refused in the same way, or sooner when its row, or all of them, are half full. What does
not fit waits in the stream itself: the shell reads no more of it (`is_full`).
"""

from collections import deque

from engine.sip.crowd import PATIENCE_S, CrowdRules, Rank, Taken, hand_over, is_inside_dialog, rank_of
from engine.sip.forward import Hop
from engine.sip.grammar import is_response

MOST_BYTES = 4 * 1024 * 1024  # of one stream, some 5,000 messages; a segment more than that
MOST_BYTES_IN_ALL = 64 * 1024 * 1024


class _Row:
    """One stream's messages, each (since when it waits, itself, is it new and ordinary?). `size`: their bytes, and
    those of its emergencies that wait elsewhere.
    """

    __slots__ = ("hop", "size", "waiting")

    def __init__(self, hop: Hop) -> None:
        self.hop = hop
        self.size = 0
        self.waiting: deque[tuple[float, bytes, bool]] = deque()


class StreamCrowd:
    """Messages of many streams, told apart by the number of their connection. `shed`: how many were refused."""

    __slots__ = ("_begun", "_count", "_emergencies", "_new", "_rows", "_size", "rules", "shed")

    def __init__(self, rules: CrowdRules) -> None:
        self.rules = rules
        self._rows: dict[int, _Row] = {}
        self._emergencies: deque[tuple[bytes, _Row]] = deque()
        self._begun: deque[_Row] = deque()  # those whose next message is of work already begun
        self._new: deque[_Row] = deque()  # those whose next message asks for a new call
        self._count = self._size = 0
        self.shed = 0

    def __len__(self) -> int:
        return self._count

    def holds(self, connection: int) -> bool:
        """Does anything of that stream wait?"""
        return connection in self._rows

    def is_full(self, connection: int) -> bool:
        """Should no more be read of that stream for now?"""
        row = self._rows.get(connection)
        return row is not None and (row.size >= MOST_BYTES or self._size >= MOST_BYTES_IN_ALL)

    def put(self, messages: list[bytes], hop: Hop, now: float) -> None:
        """Take in what a segment of the stream `hop.connection` completed. What may not be heard is dropped."""
        rules = self.rules
        row = self._rows.get(hop.connection)
        if row is None:
            row = _Row(hop)
        for data in messages:
            if not rules.hears(hop, now):
                continue
            rank = rank_of(data, hop, rules.is_emergency)
            row.size += len(data)
            self._size += len(data)
            self._count += 1
            if rank is Rank.EMERGENCY and not is_inside_dialog(data):
                self._emergencies.append((data, row))
                continue
            row.waiting.append((now, data, rank is Rank.NEW))
            if len(row.waiting) == 1:
                self._stand(row)
        if row.size:
            self._rows[hop.connection] = row

    def work(self, now: float, most: int) -> None:
        """Hand over the next, `most` of them."""
        hand_over(self.take, self.rules, now, most)

    def take(self, now: float) -> Taken | None:
        """The next to be dealt with; None when nothing waits."""
        if self._emergencies:
            data, row = self._emergencies.popleft()
            self._leave(row, data)
            return data, row.hop, False
        rows = self._begun or self._new
        if not rows:
            return None
        row = rows.popleft()
        since, data, is_new = row.waiting.popleft()
        is_crowded = row.size > MOST_BYTES // 2 or self._size > MOST_BYTES_IN_ALL // 2
        is_late = is_new and (now - since > PATIENCE_S or is_crowded)
        self.shed += is_late
        self._leave(row, data)
        if row.waiting:
            self._stand(row)
        return data, row.hop, is_late

    def take_responses(self, connection: int) -> list[bytes]:
        """The responses of a stream that has ended, out of its row: whoever waits for them must not be told first that
        it has failed.
        """
        row = self._rows.get(connection)
        if row is None:
            return []
        responses = [data for _, data, _ in row.waiting if is_response(data)]
        if responses:
            self._begun = deque(each for each in self._begun if each is not row)
            self._new = deque(each for each in self._new if each is not row)
            row.waiting = deque(each for each in row.waiting if not is_response(each[1]))
            if row.waiting:
                self._stand(row)
            for data in responses:
                self._leave(row, data)
        return responses

    def _stand(self, row: _Row) -> None:
        (self._new if row.waiting[0][2] else self._begun).append(row)

    def _leave(self, row: _Row, data: bytes) -> None:
        row.size -= len(data)
        self._size -= len(data)
        self._count -= 1
        if not row.size:
            self._rows.pop(row.hop.connection, None)
