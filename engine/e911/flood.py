"""How much is heard and recorded of those nobody knows. Pure."""

from engine.e911.entries import Stranger

DATAGRAMS_PER_S = 20  # from one address
DATAGRAMS_TOTAL_PER_S = 500  # from all of them
RECORD_EVERY_S = 10.0  # one address is recorded this often; an attempt to reach 911 more often
MAX_KEPT = 10_000


class StrangerLimit:
    """How much is heard and recorded of those nobody knows. `now` in seconds of the loop's clock."""

    def __init__(self) -> None:
        self._since = 0.0
        self._total = 0
        self._heard: dict[str, int] = {}
        self._recorded: dict[str, float] = {}
        self._logged: dict[str, float] = {}
        self.unheard = 0  # datagrams not looked at

    def hears(self, ip: str, now: float) -> bool:
        """May one more datagram of that address be looked at?"""
        if now - self._since >= 1.0:
            self._since, self._total = now, 0
            self._heard.clear()
        count = self._heard[ip] = self._heard.get(ip, 0) + 1
        if count <= DATAGRAMS_PER_S:
            self._total += 1  # what is not heard anyhow takes nothing from the others
            if self._total <= DATAGRAMS_TOTAL_PER_S:
                return True
        self.unheard += 1
        return False

    def logs(self, ip: str, now: float) -> bool:
        """May the log have another line about what that address sends? One in `RECORD_EVERY_S`, trusted or not: an
        address in a datagram proves nothing.
        """
        if now - self._logged.get(ip, -RECORD_EVERY_S) < RECORD_EVERY_S:
            return False
        if len(self._logged) >= MAX_KEPT:
            self._logged.clear()
        self._logged[ip] = now
        return True

    def records(self, stranger: Stranger, now: float) -> bool:
        """Is this one worth an entry? Whoever tries to reach 911 always is."""
        if stranger.is_emergency:
            return True
        ip = stranger.source.ip
        if now - self._recorded.get(ip, -RECORD_EVERY_S) < RECORD_EVERY_S:
            return False
        if len(self._recorded) >= 10_000:
            self._recorded.clear()
        self._recorded[ip] = now
        return True
