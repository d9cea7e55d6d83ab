"""A faster reading of messages whose like came before; what it cannot read, `message` reads.

Peers send the same few shapes for ever: the same headers in the same order and spelling. For such a shape one pattern
is made that checks and finds all a proxy needs in a single pass. A pattern takes less than the grammar allows, never
more: no folds, no blanks where they are rare, no NUL. Whatever it does not match is read by `parse_message`, and so a
message is read the same, or refused the same, whether or not its shape is known here.
"""

import re

from engine.sip import grammar
from engine.sip.headers import Via
from engine.sip.message import Message, Request, Response, Shape, parse_message

LEARN_AFTER = 32  # messages of one shape: making a pattern takes two milliseconds
MAX_PLANS = 128
MAX_TRIES = 4  # shapes that begin alike
MAX_HEAD_BYTES = 4_096  # of start line and headers; longer ones are read every time
_MAX_KEPT = 4_096
_MAX_HEADERS = 40
_START_BYTES = 11  # "INVITE sip:", "SIP/2.0 200"

_TOKEN = rb"[" + grammar.TOKEN_CHARACTERS + rb"]++"
_REST = rb"[^\r\n\0]*+"
_ADDRESS = rb'[ \t]*+(?:"[^"\\\r\n\0]*+"[ \t]*+)?<[A-Za-z][^<>\r\n \t"\0]*+>'
_VALUES = {  # how the first line of that name must look
    b"via": (
        rb"(?P<via>[ \t]*+SIP/2\.0/(?P<transport>[A-Za-z]++) (?P<host>" + grammar.HOST + rb")(?::(?P<port>\d{1,5}))?"
        rb"(?P<rport>;rport)?;branch=(?P<branch>" + _TOKEN + rb")(?P<late_rport>;rport)?)(?:," + _REST + rb")?"
    ),
    b"call-id": rb"[ \t]*+(?P<call_id>[^ \t\r\n\0]++)",
    b"cseq": rb"[ \t]*+(?P<cseq>\d{1,9}) (?P<cseq_method>" + _TOKEN + rb")",
    b"content-length": rb"[ \t]*+(?P<length>\d{1,5})",
}
_REQUEST_VALUES = _VALUES | {
    b"from": _ADDRESS + rb"(?:;tag=(?P<from_tag>" + _TOKEN + rb"))?",
    b"to": _ADDRESS + rb"(?:;tag=(?P<to_tag>" + _TOKEN + rb"))?",
    b"max-forwards": rb"[ \t]*+(?P<max_forwards>\d{1,3})",
}
_REQUEST_LINE = rb"(?P<method>[A-Z]++) (?P<uri>[^ \r\n\0]++) SIP/2\.0"
_STATUS_LINE = rb"(?P<status>SIP/2\.0 [1-6]\d\d" + _REST + rb")"
_CORE = ("transport", "host", "port", "rport", "branch", "late_rport", "call_id", "cseq", "cseq_method", "length")
_OF_REQUEST = ("method", "uri", "from_tag", "to_tag", "max_forwards", *_CORE)
_OF_RESPONSE = ("status", *_CORE)


class Plan:
    """The pattern of one shape. `groups`: numbers of its groups in the order of `_OF_REQUEST` or `_OF_RESPONSE`; `via`
    and `rport`: of those two. `via_start`: where the value begins in the line of the top Via.
    """

    __slots__ = ("groups", "is_request", "match", "rport", "shape", "via", "via_start")

    def __init__(self, shape: Shape, spellings: list[bytes], *, is_request: bool) -> None:
        self.shape, self.is_request = shape, is_request
        values = _REQUEST_VALUES if is_request else _VALUES
        parts = [rb"(?:(?!)(?P<none>))?", _REQUEST_LINE if is_request else _STATUS_LINE]
        for index, (name, spelling) in enumerate(zip(shape.names[1:], spellings, strict=True), start=1):
            is_first = shape.first[name] == index
            parts.append(rb"\r\n" + re.escape(spelling) + rb":" + (values.get(name, _REST) if is_first else _REST))
        pattern = re.compile(b"".join(parts) + rb"\r\n\r\n")
        numbers = pattern.groupindex
        self.match = pattern.match
        self.groups = tuple(
            numbers.get(name, numbers["none"]) for name in (_OF_REQUEST if is_request else _OF_RESPONSE)
        )
        self.via, self.rport = numbers["via"], numbers["rport"]
        self.via_start = len(spellings[shape.via - 1]) + 1


class PlainReader:
    """Reads messages, and learns the shapes that come again and again."""

    __slots__ = ("_methods", "_plans", "_schemes", "_seen", "_statuses", "known")

    def __init__(self) -> None:
        self.known = 0
        self._plans: dict[bytes, list[Plan]] = {}
        self._seen: dict[tuple[bytes, Shape], int] = {}
        self._methods: dict[bytes, str] = {}
        self._schemes: dict[bytes, bytes] = {}
        self._statuses: dict[bytes, tuple[int, bytes]] = {}

    def read(self, data: bytes) -> Request | Response:
        """As `parse_message`. Raises `BadMessage`, nothing else."""
        for plan in self._plans.get(data[:_START_BYTES], ()):
            found = plan.match(data)
            if found is not None:
                known = self._request(plan, found, data) if plan.is_request else self._response(plan, found, data)
                if known is not None:
                    return known
                break
        message = parse_message(data)
        if not message.faults:
            self._learn(message, data)
        return message

    def _request(self, plan: Plan, found: re.Match[bytes], data: bytes) -> Request | None:
        (
            method_bytes, uri, from_tag, to_tag, max_forwards,
            transport, host, port, rport, branch, late_rport, call_id, cseq, cseq_method, length,
        ) = found.group(*plan.groups)  # fmt: skip
        method, scheme, end = self._methods.get(method_bytes), self._schemes.get(uri), found.end()
        if method is None or scheme is None or cseq_method != method_bytes or len(data) > grammar.MAX_MESSAGE_BYTES:
            return None
        if length is not None and int(length) != len(data) - end:
            return None
        request = Request()
        if max_forwards is None:
            request.max_forwards = None
        else:
            request.max_forwards = left = int(max_forwards)
            if left > grammar.MAX_MAX_FORWARDS:
                return None
        request.raw, request.body_start, request.shape, request.faults = data, end, plan.shape, ()
        request.lines = data[: end - 4].split(b"\r\n")
        request.method, request.method_bytes, request.request_uri_bytes, request.scheme = (
            method, method_bytes, uri, scheme,
        )  # fmt: skip
        request.call_id_bytes, request.cseq_number, request.cseq_method = call_id, int(cseq), cseq_method
        request.from_tag_bytes, request.to_tag_bytes = from_tag or b"", to_tag or b""
        start = plan.via_start
        via_at, via_end = found.span(plan.via)
        via_end += start - via_at
        request.via = _NEW(Via, (
            transport, host, int(port) if port else None, branch, bool(rport or late_rport),
            found.end(plan.rport) - via_at + start if rport else via_end, start, via_end,
        ))  # fmt: skip
        return request

    def _response(self, plan: Plan, found: re.Match[bytes], data: bytes) -> Response | None:
        (
            line, transport, host, port, rport, branch, late_rport, call_id, cseq, cseq_method, length,
        ) = found.group(*plan.groups)  # fmt: skip
        status, end = self._statuses.get(line), found.end()
        if status is None or len(data) > grammar.MAX_MESSAGE_BYTES:
            return None
        if length is not None and int(length) != len(data) - end:
            return None
        response = Response()
        response.status, response.reason_bytes = status
        response.raw, response.body_start, response.shape, response.faults = data, end, plan.shape, ()
        response.lines = data[: end - 4].split(b"\r\n")
        response.call_id_bytes, response.cseq_number, response.cseq_method = call_id, int(cseq), cseq_method
        start = plan.via_start
        via_at, via_end = found.span(plan.via)
        via_end += start - via_at
        response.via = _NEW(Via, (
            transport, host, int(port) if port else None, branch, bool(rport or late_rport),
            found.end(plan.rport) - via_at + start if rport else via_end, start, via_end,
        ))  # fmt: skip
        return response

    def _learn(self, message: Request | Response, data: bytes) -> None:
        """Count one more of its shape; keep what its start line said, unless that is there to fill the memory."""
        if message.body_start > MAX_HEAD_BYTES:
            return
        if isinstance(message, Request):
            if len(self._schemes) >= _MAX_KEPT:
                self._schemes.clear()
                self._methods.clear()
            self._schemes[message.request_uri_bytes] = message.scheme
            self._methods[message.method_bytes] = message.method
        else:
            if len(self._statuses) >= _MAX_KEPT:
                self._statuses.clear()
            self._statuses[message.lines[0]] = message.status, message.reason_bytes
        key = (data[:_START_BYTES], message.shape)
        if len(self._seen) >= _MAX_KEPT:
            self._seen.clear()
        count = self._seen[key] = self._seen.get(key, 0) + 1
        if count == LEARN_AFTER:
            self._make_plan(message, key[0])

    def _make_plan(self, message: Message, start: bytes) -> None:
        spellings = [line[: line.find(b":")] for line in message.lines[1:]]
        if any(b"\r" in line for line in message.lines) or len(spellings) > _MAX_HEADERS:
            return
        plan = Plan(message.shape, spellings, is_request=isinstance(message, Request))
        if self.known >= MAX_PLANS:
            self._plans.clear()
            self._seen.clear()
            self.known = 0
        alike = self._plans.setdefault(start, [])
        if len(alike) < MAX_TRIES:
            alike.append(plan)
            self.known += 1


_NEW = tuple.__new__
