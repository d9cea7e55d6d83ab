"""What is known of dialogs after their INVITE ended, each kind to a bound: the oldest is forgotten then. Pure."""

from collections import OrderedDict

from engine.sip.forward import Hop
from engine.sip.message import Request, Response

MAX_REPEATED = 4_096  # re-INVITEs remembered until their ACK
MAX_TAGGED_DIALOGS = 100_000  # the oldest is forgotten then: its BYE is still forwarded, only not reported
MAX_ANSWERERS = 100_000  # the oldest is forgotten then: its requests go by the order of the name's addresses


class Remembered:
    """Whom to tell of a dialog's BYE, which address answered its INVITE, and by how much its CSeq was raised."""

    __slots__ = ("_answerers", "_repeated", "_tags")

    def __init__(self) -> None:
        self._tags: OrderedDict[tuple[bytes, bytes], object] = OrderedDict()
        self._answerers: OrderedDict[tuple[bytes, bytes, bytes], Hop] = OrderedDict()
        self._repeated: OrderedDict[tuple[bytes, int], int] = OrderedDict()

    def keep_tag(self, response: Response, tag: object) -> None:
        """A 2xx of an INVITE: its dialog is this tag's."""
        self._tags[response.call_id_bytes, response.tag_bytes(b"from")] = tag
        if len(self._tags) > MAX_TAGGED_DIALOGS:
            self._tags.popitem(last=False)

    def has_tag(self, request: Request) -> bool:
        """Would `take_tag` find one?"""
        call = request.call_id_bytes
        return (call, request.from_tag_bytes) in self._tags or (call, request.to_tag_bytes) in self._tags

    def take_tag(self, request: Request) -> object:
        """The tag of the dialog that this BYE, of either side, ends; None when there is none. Told once."""
        if not self._tags:
            return None
        for caller in (request.from_tag_bytes, request.to_tag_bytes):
            tag = self._tags.pop((request.call_id_bytes, caller), None)
            if tag is not None:
                return tag
        return None

    def keep_answerer(self, response: Response, hop: Hop) -> None:
        """A 2xx of an INVITE came from there: what its sender says next in this dialog belongs there."""
        key = (response.call_id_bytes, response.tag_bytes(b"from"), response.tag_bytes(b"to"))
        self._answerers[key] = hop
        if len(self._answerers) > MAX_ANSWERERS:
            self._answerers.popitem(last=False)

    def answerer_of(self, request: Request) -> Hop | None:
        """Where the last INVITE was answered that the sender of this request sent in its dialog."""
        return self._answerers.get((request.call_id_bytes, request.from_tag_bytes, request.to_tag_bytes))

    def forget_answerer(self, request: Request, hop: Hop) -> None:
        """A request of the dialog found nobody there."""
        key = (request.call_id_bytes, request.from_tag_bytes, request.to_tag_bytes)
        known = self._answerers.get(key)
        if known is not None and known.ip == hop.ip and known.port == hop.port:
            del self._answerers[key]

    def forget_answerers(self, request: Request) -> None:
        """A BYE ended the dialog."""
        if self._answerers:
            call, one, other = request.call_id_bytes, request.from_tag_bytes, request.to_tag_bytes
            self._answerers.pop((call, one, other), None)
            self._answerers.pop((call, other, one), None)

    def keep_repeats(self, request: Request, repeats: int) -> None:
        """An INVITE inside a dialog went out with a CSeq so much higher."""
        self._repeated[request.call_id_bytes, request.cseq_number] = repeats
        if len(self._repeated) > MAX_REPEATED:
            self._repeated.popitem(last=False)

    def repeats_of(self, request: Request) -> int:
        """By how much the CSeq of the INVITE inside a dialog that this ACK belongs to was raised."""
        return self._repeated.get((request.call_id_bytes, request.cseq_number), 0)
