"""Requests of our own outside any dialog (OPTIONS, NOTIFY): sent, proven when asked to, ended (RFC 3261 §8.1, §22)."""

from collections.abc import Callable, Sequence

from engine.sip import edit
from engine.sip.auth import Credentials
from engine.sip.dialog import Dialogs
from engine.sip.disguise import proof_lines
from engine.sip.events import Event, OwnRequestEnded
from engine.sip.failover import CHALLENGES
from engine.sip.forward import Hop
from engine.sip.message import Response
from engine.sip.timers import Deadlines, Timed
from engine.sip.transaction import ClientTransaction, Transactions, client_key


class OwnRequest(Timed):
    """A request of ours; ends by a final response, its own time limit, or a transport that failed.

    `credentials` answer a challenge to it, once; `inner` that of whom it is meant for (401), where a proxy on the way
    (407) knows us by others.
    """

    __slots__ = ("client", "credentials", "inner", "proofs", "proven", "token")

    client: ClientTransaction

    def __init__(self, token: object, credentials: Credentials | None = None, inner: Credentials | None = None) -> None:
        super().__init__()
        self.token = token
        self.credentials = credentials
        self.inner = inner
        self.proofs: dict[int, int] = {}  # how often each of 401 and 407 was answered
        self.proven: dict[int, tuple[bytes, ...]] = {}  # and with what, last

    def credentials_for(self, status: int) -> Credentials | None:
        """What answers a challenge of that status; None: nothing does."""
        first, second = (self.inner, self.credentials) if status == 401 else (self.credentials, self.inner)
        return first or second


class OwnRequests:
    """Sends them and takes what comes back; each ends in one `OwnRequestEnded`."""

    def __init__(
        self,
        *,
        transactions: Transactions,
        dialogs: Dialogs,
        deadlines: Deadlines,
        make_branch: Callable[[], str],
        make_tag: Callable[[], str],
        emit: Callable[[Event], None],
    ) -> None:
        self._transactions = transactions
        self._dialogs = dialogs
        self._deadlines = deadlines
        self._make_branch = make_branch
        self._make_tag = make_tag
        self._emit = emit

    def send(
        self,
        method: str,
        request_uri: str,
        hop: Hop,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        own: OwnRequest,
        now: float,
        timeout_s: float,
    ) -> None:
        """`headers` may hold From, To, Call-ID, CSeq, Max-Forwards or Contact instead of the usual ones."""
        given = {name.lower() for name, _ in headers}
        name = self._make_branch().encode()
        contact = self._dialogs.contact(hop)
        via = self._dialogs.via(hop, name).decode().partition(": ")[2]
        usual = (
            ("Max-Forwards", "70"),
            ("From", f"<sip:callpoint@{contact}>;tag={self._make_tag()}"),
            ("To", f"<{request_uri}>"),
            ("Call-ID", f"{self._make_tag()}@{contact}"),
            ("CSeq", f"1 {method}"),
            ("Contact", f"<sip:{contact}>"),
        )
        lines = [("Via", via), *(line for line in usual if line[0].lower() not in given), *headers]
        sent = edit.own_request(method, request_uri, lines, body)
        own.client = ClientTransaction(client_key(name, method.encode()), sent, hop, own)
        self._transactions.open_client(own.client, now)
        self._deadlines.arm(own, timeout_s, now)

    def receive_final(self, own: OwnRequest, response: Response, now: float) -> None:
        """A final response: what challenges is answered, all else is the end."""
        if own.lane is None or (response.status in CHALLENGES and self._prove(own, response, now)):
            return
        self._transactions.forget_sent(own.client)
        self.end(own, response.status, now)

    def end(self, own: OwnRequest, status: int | None, now: float) -> None:
        """It is over; None: without an answer."""
        if own.lane is not None:
            self._deadlines.disarm(own)
            self._emit(OwnRequestEnded(own.token, status, now))

    def time_out(self, own: OwnRequest, now: float) -> None:
        """Its own limit is up, and its deadline disarmed."""
        self._transactions.abandon(own.client)
        self._emit(OwnRequestEnded(own.token, None, now))

    def _prove(self, own: OwnRequest, response: Response, now: float) -> bool:
        """Send a challenged request of ours again with its proof (RFC 3261 §22.2); False when there is none to give."""
        credentials, status = own.credentials_for(response.status), response.status
        if credentials is None:
            return False
        sent, hop, ahead = own.client.sent, own.client.hop, sum(own.proofs.values())
        proof = proof_lines(
            response, sent, credentials, cnonce=self._make_tag(), proofs=own.proofs.get(status, 0), ahead=ahead
        )  # fmt: skip
        if not proof:
            return False
        own.proofs[status] = own.proofs.get(status, 0) + 1
        own.proven[status] = proof
        name = self._make_branch().encode()
        again = edit.own_request_again(
            sent, self._dialogs.via(hop, name), tuple(line for lines in own.proven.values() for line in lines)
        )
        own.client = ClientTransaction(client_key(name, response.cseq_method), again, hop, own)
        self._transactions.open_client(own.client, now)
        return True
