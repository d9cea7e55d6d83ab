"""The phones' port: `GET|HEAD /p/{token}/{file}`, `PUT` of logs, `GET /healthz`, and nothing else.

Theory of operation. One plain handler under aiohttp's low-level server; no router, no application, no middleware, so
that a phone whose configuration has not changed costs one SQL statement and one write. Whatever is wrong with a request
is answered by the same 404: the same bytes, the same headers, after the same statement, whether the token is unknown or
rotated, the MAC unknown or another account's, the file another vendor's or the path nonsense. What was wrong stands in
the fetch log alone. The keyed index of a token asked lately is remembered, whosever it is: who could tell by the time
it takes has sent that very token.

Between the look-up of the token and the write of the answer nothing is awaited that could let a rotation slip in
between on SQLite: after the commit of a rotation no request gets a 200 by the old token.
"""

import datetime as dt
import ipaddress
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from hashlib import sha256

from aiohttp import hdrs, web
from multidict import CIMultiDict

from engine import config
from engine.crypto import KeyRing
from engine.db import Database
from engine.errors import DatabaseAway, EngineError, Invalid, NotFound
from engine.provisioning import (
    admission,
    again,
    asking,
    assetfile,
    certificates,
    quarantine,
    ranges,
    sealing,
    sending,
    settings,
    standing_in,
    tokens,
    uploads,
    vendors,
)
from engine.provisioning.admission import Admission, Asker, Turned
from engine.provisioning.answers import (
    ERROR_BODY,
    LOG,
    SECURITY,
    Answer,
    NoTokens,
    PhoneServer,
    answer_kept,
    not_found,
    plain,
)
from engine.provisioning.asking import Asked, noted, served
from engine.provisioning.assetfile import AssetRecord
from engine.provisioning.assetstore import AssetStore
from engine.provisioning.certificates import Authorities, DeviceCertificate
from engine.provisioning.directories import Directories
from engine.provisioning.fetched import LastFetched
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.fetchlog import MANY, FetchLog
from engine.provisioning.index import Found, Index, open_index
from engine.provisioning.kept import Kept, KeptFiles
from engine.provisioning.policy import Policy
from engine.provisioning.render import PhoneConfig, Renderer, fitted, served_names
from engine.provisioning.sealing import Manner
from engine.provisioning.vendors import Confidence, FileKind, FileRule, Mac, PhoneIdentity, Profile
from engine.web_crowd import FINISH_WITHIN_S, connections_of_a_port

Texts = Mapping[str, str]  # templates by name
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Handler = Callable[[web.BaseRequest], Awaitable[tuple[int, bytes, Mapping[str, str]] | None]]
"""A request to status, body and headers; None: the one 404."""
OnRendered = Callable[[str, Profile, FileRule, PhoneConfig, Mapping[str, str]], None]

MAX_LINE_BYTES = 8190  # of the request line and of one header: aiohttp's own limit, which the 404 tests reach
RETRY_AFTER_S = 60
_ANYBODY = PhoneIdentity(None, None, None, None, FileKind.OTHER, Confidence.NONE)
_NO_TIME = dt.datetime.min.replace(tzinfo=dt.UTC)
_KEPT_AUDIENCES = 8  # address and User-Agent pairs remembered beside one file
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?\Z")
_host = lru_cache(maxsize=64)(_HOST.match)  # a node has few names
_ETAG = "ETag"  # as RFC 9110 §8.8.3 writes it


# --- Composition ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhonesPort:
    """What the phones' port is made of.

    public_url: what phones are told, without `/p/`; empty: the host they asked. trusted_proxies: whose X-Forwarded-For
    and X-Forwarded-Proto count. also: further handlers by the first segment of their path (`held`). on_rendered: told
    what each file was made from.
    """

    index: Index
    keys: KeyRing
    renderer: Renderer
    log: FetchLog
    public_url: str = ""
    trusted_proxies: tuple[Network, ...] = ()
    client_cert_header: str = ""  # in which they hand a phone's certificate on; empty: in none
    also: dict[str, Handler] = field(default_factory=dict)
    kept: KeptFiles = field(default_factory=KeptFiles)
    admission: Admission = field(default_factory=Admission)
    last_fetched: LastFetched | None = None
    on_rendered: OnRendered | None = None
    assets: AssetStore | None = None
    upload_within_s: float = uploads.WITHIN_S

    def address_of(self, request: web.BaseRequest) -> str:
        """The asker's address: the peer's, or what a trusted proxy in front of us says, nearest first."""
        peer = request.remote or ""
        if not self.trusted_proxies or not self.is_trusted(peer):
            return peer
        for hop in reversed(request.headers.get(hdrs.X_FORWARDED_FOR, "").split(",")):
            address = hop.strip().strip("[]")
            if not _is_address(address):
                break
            peer = address
            if not self.is_trusted(address):
                break
        return peer

    def certificate_of(self, request: web.BaseRequest) -> DeviceCertificate | None:
        """The phone's certificate: the connection's own, or what a trusted proxy says it was shown."""
        authorities = self.admission.authorities
        if authorities is None:
            return None
        if self.trusted_proxies and self.is_trusted(request.remote or ""):
            return certificates.of_headers(request.headers, self.client_cert_header, authorities)
        shown = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
        return certificates.of_transport(shown)

    def is_trusted(self, address: str) -> bool:
        """Whether it is one of the reverse proxies in front of this port."""
        if not _is_address(address):
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self.trusted_proxies if network.version == parsed.version)

    def runner(self) -> web.ServerRunner:
        """The server, to be set up and given its sites; starts the fetch log. Needs a running loop."""
        self.log.start()
        if self.last_fetched is not None:
            self.log.on_written = self.last_fetched.note
            self.last_fetched.start()
        return web.ServerRunner(make_server(self), shutdown_timeout=FINISH_WITHIN_S)

    async def close(self) -> None:
        """Write what the fetch log still holds and let the database go. The runner is cleaned up before."""
        await self.log.stop()
        if self.last_fetched is not None:
            await self.last_fetched.stop()
        self.index.close()

    async def files(self, phone_id: str, provisioning_url: str, *, is_masked: bool = True) -> dict[str, bytes]:
        """Every file the phone is served, in the order it asks, rendered now.

        Args:
            provisioning_url: As `tokens.provisioning_url` makes it; masked, its token is not shown.
            is_masked: Replace secrets, the admin password and the token, so that a page may show the files.

        Raises:
            NotFound: no such phone. UnsafeValue: what the phone would be refused too. DatabaseAway: as it says.
        """
        record = await self.index.phone(phone_id)
        profile = self.renderer.vendors.profiles.get(record.vendor) if record is not None else None
        if record is None or profile is None:
            raise NotFound("There is no phone of that id.")
        if is_masked:
            record, provisioning_url = settings.masked(record), tokens.redact(provisioning_url)
        own = settings.phone_config(record, profile, provisioning_url)
        shared = settings.site_config(record.account, profile, provisioning_url)
        texts = await self.index.overrides(record.account.account_id, profile.name, phone_id)
        found = {}
        for name in served_names(profile, Mac(record.mac), own.model):
            rule = profile.file_rule(name)
            if rule is not None and rule.template is not None:
                is_own = "mac" in rule.pattern.groupindex
                config = fitted(own if is_own else shared, profile.refused)
                found[name] = self.renderer.render(profile, rule, config, texts)
        return found


def make_phones_port(
    section: config.Provisioning, keys: KeyRing, database: Database, assets: AssetStore | None = None
) -> PhonesPort:
    """The port as the configuration wants it; nothing is opened yet. `assets`: the bytes of the accounts' own files.

    Raises:
        ConfigFault: the vendor profiles, or the makers' authorities, cannot be read.
    """
    renderer = Renderer(vendors.known())
    last_fetched = LastFetched(database, renderer)
    return PhonesPort(
        index=open_index(database, keys),
        keys=keys,
        renderer=renderer,
        log=FetchLog(database),
        public_url=section.public_url,
        trusted_proxies=section.trusted_proxies,
        client_cert_header=section.client_cert_header,
        admission=Admission(Authorities.load(section.client_ca) if section.client_ca is not None else None),
        assets=assets,
        last_fetched=last_fetched,
        on_rendered=last_fetched.rendered,
    )


def make_server(port: PhonesPort) -> web.Server:
    """The server behind the runner. Request lines never reach a log: `/p/{token}/` would be in them."""
    if not any(isinstance(known, NoTokens) for known in LOG.filters):
        LOG.addFilter(NoTokens())
    door = _Door(port)
    server = PhoneServer(
        door.answer,
        access_log=None,
        logger=LOG,
        keepalive_timeout=75,
        tcp_keepalive=False,  # it looks after two hours, and every wait of ours ends within minutes
        lingering_time=2.0,  # for the body of what was refused
        auto_decompress=False,  # no body is looked into here: nobody makes us unpack one
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
    server.max_connections = connections_of_a_port()
    return server


# --- The door -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Refusal:
    kind: FetchKind
    reason: str


class _Door:
    """Requests to answers. One for each server."""

    def __init__(self, port: PhonesPort) -> None:
        self._port = port
        self._vendors = port.renderer.vendors
        self._books = Directories(port.index)
        self._gate = quarantine.Gate(self._vendors)
        self._answered = again.Answered()
        self._parse = lru_cache(maxsize=4096)(partial(asking.parse, self._vendors))
        self._index = lru_cache(maxsize=1024)(partial(tokens.index, port.keys))  # every account's phones ask by one

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        if not path.startswith("/p/"):
            return await self._elsewhere(request, path)
        started = time.perf_counter()
        fields = request.headers
        agent = fields.get(hdrs.USER_AGENT, "")
        parsed = self._parse(path[: MAX_LINE_BYTES + 1], agent)
        token_index = self._index(parsed.token)
        address, is_tls = self._port.address_of(request), self._is_tls(request)
        base = self._base(request, is_tls=is_tls)
        condition, codings = fields.get(hdrs.IF_NONE_MATCH), fields.get(hdrs.ACCEPT_ENCODING)
        whole = (path, agent, address, request.method, is_tls, base, condition, codings)
        asked = Asked(request.method, *parsed[:4], address, started, token_index, parsed.is_sealed, is_tls, base, whole)
        try:
            return await self._file(request, asked, parsed.who)
        except DatabaseAway:
            return plain(503, ERROR_BODY, **{hdrs.RETRY_AFTER: str(RETRY_AFTER_S)})

    async def _elsewhere(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path == "/healthz" and request.method in {hdrs.METH_GET, hdrs.METH_HEAD}:
            return plain(200, b"ok\n")
        handler = self._port.also.get(path[1:].split("/", 1)[0].split("?", 1)[0])
        answer = await handler(request) if handler is not None else None
        if answer is None:
            return not_found()
        status, body, headers = answer
        return Answer(status=status, body=body, headers=CIMultiDict(SECURITY | dict(headers)))

    async def _file(self, request: web.BaseRequest, asked: Asked, who: PhoneIdentity) -> web.StreamResponse:
        """Every path through here does the same hash and the same statement before it decides anything."""
        asker = self._asker(request, asked)
        named = admission.with_certificate(who, asker.certificate)
        found = await self._port.index.find(asked.token_index, named.mac or "", asked.file)
        if asker.certificate is not None:
            asked = asked._replace(whole=())
        elif (once_more := self._once_more(request, asked, found)) is not None:
            return once_more
        return await self._judged(request, asked, asker, who, named, found)

    async def _judged(
        self,
        request: web.BaseRequest,
        asked: Asked,
        asker: Asker,
        who: PhoneIdentity,
        named: PhoneIdentity,
        found: Found | None,
    ) -> web.StreamResponse:
        """The answer by all rules. `named`: who asks, if the certificate shown counts for something."""
        try:
            policy = Policy.read(found.policy if found is not None else "")
        except Invalid as exc:  # nobody is served by rules that cannot be read
            return self._fail(asked, who, found, exc)
        if named is not who:  # by its certificate alone
            who, found = admission.settled(who, named, found, asker, policy)
        if admission.proves(asker, policy, who):
            who = replace(who, is_proven=True)
        allowed = self._allowed(asked, who, found)
        misses = allowed.reason if isinstance(allowed, _Refusal) else None
        turned = self._port.admission.judge(asker, policy, found, who, misses=misses)
        if turned is not None or isinstance(allowed, _Refusal) or found is None:
            refusal = allowed if isinstance(allowed, _Refusal) else _Refusal(FetchKind.DENIED, "token")
            return self._turn_away(asked, who, found, refusal, turned)
        who = admission.certified(who, asker, policy, found.vendor)
        if isinstance(allowed, AssetRecord):
            return await self._send_asset(request, asked, who, found, allowed)
        profile, rule = allowed
        if asked.method == hdrs.METH_PUT:
            return await self._upload(request, asked, who, found, rule)
        reason = None
        if asked.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            reason = "method"
        elif not rule.is_served:
            reason = "absent"
        elif sealing.is_too_open(policy, profile, rule, is_sealed=asked.is_sealed, is_tls=asked.is_tls):
            reason = "plaintext"
        if reason is not None:
            return self._refuse(asked, who, found, FetchKind.DENIED, reason)
        return await self._serve(request, asked, who, found, profile, rule)

    def _allowed(
        self, asked: Asked, who: PhoneIdentity, found: Found | None
    ) -> tuple[Profile, FileRule] | AssetRecord | _Refusal:
        """The vendor and the rule of the file, or a file of the account's own, or why this asker may not even know
        whether it exists.
        """
        if found is None:
            return _Refusal(FetchKind.DENIED, "token")
        if not asked.is_well_formed or who.is_refused:
            is_nonsense = not asked.is_well_formed
            return _Refusal(*((FetchKind.DENIED, "path") if is_nonsense else (FetchKind.MISMATCH, "contradiction")))
        if found.phone_id is not None and (held := self._gate.refusal(found, who, asked.ip, asked.started)):
            return _Refusal(FetchKind.MISMATCH, held)
        profile = self._profile(who, found)
        rule = profile.file_rule(asked.file) if profile is not None else None
        if found.asset is not None and (rule is None or not rule.is_served):
            is_for = assetfile.is_for(found.asset, found.vendor, found.model, who)
            return found.asset if is_for else _Refusal(FetchKind.MISMATCH, "vendor")
        return self._configuration(who, found, profile, rule)

    def _configuration(
        self, who: PhoneIdentity, found: Found, profile: Profile | None, rule: FileRule | None
    ) -> tuple[Profile, FileRule] | _Refusal:
        if found.phone_id is None and (profile is None or rule is None or "mac" in rule.pattern.groupindex):
            return _Refusal(FetchKind.DENIED, "phone")
        if profile is None or self._is_another_vendor(who, profile):
            return _Refusal(FetchKind.MISMATCH, "vendor")
        if rule is None:
            return _Refusal(FetchKind.MISMATCH, "unknown")
        return profile, rule

    def _profile(self, who: PhoneIdentity, found: Found) -> Profile | None:
        """The phone's own vendor when the phone is known, else the one the evidence names."""
        vendor = found.vendor if found.phone_id is not None else who.vendor
        return self._vendors.profiles.get(vendor or "")

    @staticmethod
    def _is_another_vendor(who: PhoneIdentity, profile: Profile) -> bool:
        """An address block proves little; a User-Agent or a file name of another vendor contradicts."""
        return who.confidence >= Confidence.HIGH and who.vendor != profile.name

    async def _serve(
        self,
        request: web.BaseRequest,
        asked: Asked,
        who: PhoneIdentity,
        found: Found,
        profile: Profile,
        rule: FileRule,
    ) -> web.StreamResponse:
        base = asked.base
        is_own = found.phone_id is not None and "mac" in rule.pattern.groupindex
        accepted = request.headers.get(hdrs.ACCEPT_ENCODING, "")
        manner = sealing.manner(profile, rule, accepted, is_sealed=asked.is_sealed)
        key = ((found.phone_id or "") if is_own else found.account_id, manner.mark + asked.file, base + asked.token)
        kept = self._port.kept.get(key, found.revision)
        if kept is None:
            try:
                if rule.directory is not None:
                    kept = await self._books.kept(found, profile, rule, asked.file, base=base, token=asked.token)
                else:
                    texts = await self._port.index.overrides(found.account_id, profile.name, key[0] if is_own else "")
                    making = partial(self._render, found, profile, rule, base, asked.token, manner)
                    earlier = partial(self._port.index.earlier, found.account_id, profile.name, texts)
                    kept = await standing_in.made(making, texts, self._port.kept.last(key), found.revision, earlier)
                if not self._port.index.is_instant and await self._port.index.find(asked.token_index, "") is None:
                    kept = None  # rotated while it was rendered
            except DatabaseAway:
                raise
            except (EngineError, ValueError) as exc:
                return self._fail(asked, who, found, exc)
            if kept is None:
                return self._refuse(asked, who, found, FetchKind.DENIED, "phone")
            self._port.kept.put(key, kept)
            if self._port.kept.on_made is not None and rule.directory is None and not kept.fault:
                self._port.kept.on_made(key, kept)
        return self._answer_kept(request, asked, who, found, rule, key, kept)

    async def _render(
        self, found: Found, profile: Profile, rule: FileRule, base: str, token: str, manner: Manner, own: Texts
    ) -> Kept | None:
        """The file, with the URL that phones are being moved to where there is one."""
        file_key = ""
        phone_config: PhoneConfig
        if found.phone_id is not None and "mac" in rule.pattern.groupindex:
            phone = await self._port.index.phone(found.phone_id or "")
            if phone is None:
                return None  # deleted between the two statements
            url = tokens.provisioning_url(base, phone.account.next_token or token)
            phone_config, file_key = settings.phone_config(phone, profile, url), phone.file_key
        else:
            account = await self._port.index.account(found.account_id)
            if account is None:
                return None
            url = tokens.provisioning_url(base, account.next_token or token)
            phone_config = settings.site_config(account, profile, url + manner.folder)
        phone_config, fault = standing_in.fitting(profile, phone_config)
        body = manner.seal(self._port.renderer.render(profile, rule, phone_config, own), file_key)
        if body is None:
            return None  # it was never given a key
        etag = f'"{sha256(body).hexdigest()[:32]}"'
        if self._port.on_rendered is not None:
            self._port.on_rendered(etag, profile, rule, phone_config, own)
        headers = sending.headers_of(profile.content_type, len(body), etag)
        headers.update(manner.headers)
        return standing_in.marked(Kept(found.revision, body, etag, headers), fault)

    async def _send_asset(
        self, request: web.BaseRequest, asked: Asked, who: PhoneIdentity, found: Found, asset: AssetRecord
    ) -> web.StreamResponse:
        """A file of the account's own, whole or in part, from disk."""
        if asked.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            return self._refuse(asked, who, found, FetchKind.DENIED, "method")
        try:
            if self._port.assets is None:
                raise FileNotFoundError("this node keeps no files")
            file = self._port.assets.open(asset.sha256)
        except OSError as exc:
            return self._fail(asked, who, found, FileNotFoundError(f"The bytes of {asset.name} are not here: {exc}"))
        with file:
            part = sending.part_for(request, asset.size_bytes, asset.etag)
            headers = {hdrs.CONTENT_TYPE: asset.content_type, _ETAG: asset.etag, **SECURITY}
            answer, sent = await sending.send_part(request, file, asset.size_bytes, part, headers)
        kind = FetchKind.NOT_MODIFIED if part.status == 304 else FetchKind.FETCH
        fetch = noted(asked, who, found, kind, part.status)._replace(
            etag=asset.etag, size_bytes=sent, evidence=(*who.evidence, *sending.cut_short(asked.method, part, sent))
        )
        self._port.log.note(fetch, int((time.perf_counter() - asked.started) * 1e6))
        return answer

    def _answer_kept(
        self,
        request: web.BaseRequest,
        asked: Asked,
        who: PhoneIdentity,
        found: Found,
        rule: FileRule,
        key: again.Key,
        kept: Kept,
    ) -> web.StreamResponse:
        sent = sending.representation(self._port.kept, kept, request.headers.get(hdrs.ACCEPT_ENCODING))
        condition = request.headers.get(hdrs.IF_NONE_MATCH)
        is_same = condition is not None and ranges.lists(condition, sent.etag, is_strong=False)
        audience = (asked.ip, asked.user_agent, asked.method, is_same, sent is kept, who.evidence)
        fetch = kept.audiences.get(audience)
        if fetch is None:
            if len(kept.audiences) >= _KEPT_AUDIENCES:
                kept.audiences.clear()
            fetch = served(asked, who, found, rule, sent, is_same=is_same)._replace(etag=kept.etag)
            fetch = standing_in.noted(fetch, kept)
            kept.audiences[audience] = fetch
        elif asked.whole:
            one, other = weakref.ref(kept), weakref.ref(sent)
            self._answered.put(asked.whole, again.Served(found, key, one, other, is_same, fetch))
        return self._send_kept(request, asked, sent, fetch, is_same=is_same)

    def _once_more(self, request: web.BaseRequest, asked: Asked, found: Found | None) -> web.StreamResponse | None:
        """The answer to a request that was answered before, when every rule would come to the same one again."""
        if found is None or self._gate.remembers(found.phone_id):
            return None
        if not self._port.admission.is_calm(asked.ip, found.last_ip):
            return None
        known = self._answered.get(asked.whole, found, self._port.kept)
        if known is None:
            return None
        sent, served_before = known
        return self._send_kept(request, asked, sent, served_before.fetch, is_same=served_before.is_same)

    def _send_kept(
        self, request: web.BaseRequest, asked: Asked, sent: Kept, fetch: Fetch, *, is_same: bool
    ) -> web.StreamResponse:
        self._port.log.note(fetch, int((time.perf_counter() - asked.started) * 1e6))
        return answer_kept(request, sent, is_same=is_same)

    async def _upload(
        self, request: web.BaseRequest, asked: Asked, who: PhoneIdentity, found: Found, rule: FileRule
    ) -> web.StreamResponse:
        """Logs are taken and thrown away, so that the phone is content; overrides and directories are refused, since
        nobody would ever see them and the phone would fetch them back over the account's own settings.
        """
        if not rule.upload or rule.kind is not FileKind.LOG or found.phone_id is None:
            return self._refuse(asked, who, found, FetchKind.DENIED, "upload")
        try:
            size = await uploads.swallow(request, self._port.upload_within_s)
        except uploads.Refused as exc:
            return self._refuse(asked, who, found, FetchKind.DENIED, exc.reason)
        if await self._port.index.find(asked.token_index, "") is None:
            return self._refuse(asked, who, None, FetchKind.DENIED, "token")  # rotated while the body came
        fetch = noted(asked, who, found, FetchKind.UPLOAD, 201)._replace(size_bytes=size)
        self._port.log.note(fetch, int((time.perf_counter() - asked.started) * 1e6))
        return plain(201, b"")

    def _asker(self, request: web.BaseRequest, asked: Asked) -> Asker:
        """Who asks, with the certificate shown where certificates are looked at."""
        certificate = self._port.certificate_of(request)
        now = dt.datetime.now(dt.UTC) if certificate is not None else _NO_TIME
        return Asker(asked.ip, certificate, asked.started, now)

    def _turn_away(
        self, asked: Asked, who: PhoneIdentity, found: Found | None, refusal: _Refusal, turned: Turned | None
    ) -> web.Response:
        """The one 404; a flood of different misses is one event of the fetch log."""
        if turned is None:
            return self._refuse(asked, who, found, refusal.kind, refusal.reason)
        kind = FetchKind.MISMATCH if turned.is_mismatch else FetchKind.DENIED
        if turned.is_flood:
            asked, who = asked._replace(file=MANY, user_agent=MANY, method=hdrs.METH_GET), _ANYBODY
        else:
            who = replace(who, evidence=(*turned.evidence, *who.evidence))
        return self._refuse(asked, who, found, kind, turned.reason)

    def _refuse(
        self, asked: Asked, who: PhoneIdentity, found: Found | None, kind: FetchKind, reason: str
    ) -> web.Response:
        seen = self._gate.seen(found, who, asked.ip, asked.started) if reason == quarantine.REASON else None
        if found is not None and reason in quarantine.REASONS and (told := quarantine.both_models(found, who)):
            who = replace(who, evidence=(told, *who.evidence))
        fetch = noted(asked, who, found, kind, 404)._replace(reason=reason, seen=seen)
        self._port.log.note(fetch, int((time.perf_counter() - asked.started) * 1e6))
        return not_found()

    def _fail(self, asked: Asked, who: PhoneIdentity, found: Found | None, error: Exception) -> web.Response:
        """A file that may not be served (an unsafe value, a dial plan that holds 911 up): the phone keeps what it
        has.
        """
        fetch = noted(asked, who, found, FetchKind.FAILED, 503)
        self._port.log.note(fetch._replace(reason=type(error).__name__, evidence=(str(error)[:300],)), 0)
        return plain(503, ERROR_BODY, **{hdrs.RETRY_AFTER: str(RETRY_AFTER_S)})

    def _is_tls(self, request: web.BaseRequest) -> bool:
        """Whether nobody on the way can read along: over our own TLS, or a trusted proxy's."""
        if request.scheme == "https":  # the connection's own: aiohttp believes no header of it
            return True
        is_behind = self._port.trusted_proxies and self._port.is_trusted(request.remote or "")
        return bool(is_behind) and request.headers.get(hdrs.X_FORWARDED_PROTO) == "https"

    def _base(self, request: web.BaseRequest, *, is_tls: bool) -> str:
        """`scheme://host` that the phone shall ask next time."""
        if self._port.public_url:
            return self._port.public_url.rstrip("/")
        scheme = "https" if is_tls else "http"
        host = request.headers.get(hdrs.HOST) or ""
        if not _host(host):
            name = request.transport.get_extra_info("sockname") if request.transport is not None else None
            host = f"{name[0]}:{name[1]}" if name else "localhost"
        return f"{scheme}://{host}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
