"""One account's location table on disk: written by the main process after a commit, read by the SIP process and at
its start.

A file `<account_id>.sealed` is a row of pieces, each sealed by itself with its place in the row: reading a large
account in a thread then never holds the interpreter for longer than a few hundred rows take. The file is replaced in
one step: a reader sees the old table or the new one. One that cannot be read is skipped and reported; every other
account keeps its 911 calls.
"""

import json
import os
import re
import secrets
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from engine.crypto import KeyRing, Unsealable
from engine.e911.geo import Shape, shape_of
from engine.e911.location import (
    ELIN_HOLD_MINUTES,
    AccountTable,
    AttachedBy,
    Attachment,
    CivicAddress,
    Confirmed,
    DispatchableLocation,
    IpNetwork,
    Line,
    Mac,
    Network,
    Number,
    NumberHolder,
    Pbx,
    Phone,
    Sighting,
    Trunk,
    plain_address,
    plain_chassis,
    plain_mac,
    plain_port,
    plain_switch_port,
)

CONTEXT = "snapshot"
SUFFIX = ".sealed"
ROWS_PER_PIECE = 256
_LENGTH = struct.Struct(">I")
_LISTS = (
    "locations", "networks", "phones", "lines", "pbxs", "trunks", "numbers", "sightings", "confirmed",
    "trunk_groups",
)  # fmt: skip
_MAY_LACK = {  # fields without which a row still helps a call
    "locations": ("validated_at", "civic_address", "geo", "carrier_ids"),
    "phones": ("line_ids",),
    "pbxs": ("sources", "registrar_port"),
    "trunks": ("port", "priority"),  # 5060 is the likeliest
    "numbers": ("held_until", "held_by"),
}
_UNREADABLE = (KeyError, ValueError, TypeError, AttributeError, OverflowError)
_NUMBER = re.compile(r"\+?[0-9*#]{1,20}")
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,253}")
_Row = TypeVar("_Row")


class BadSnapshot(Exception):
    """A snapshot that cannot be used: `detail` says why, for the operator."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a folder of snapshots held: the tables, and one sentence for each file that could not be used."""

    tables: tuple[AccountTable, ...]
    faults: tuple[str, ...]


def save(directory: Path, snapshot: Mapping[str, Any], keys: KeyRing) -> tuple[str, ...]:
    """Write one account's snapshot, durable on return. Returns what of it no call can go by, as `AccountTable.faults`.

    Raises:
        BadSnapshot: it names no account; nothing was written.
        OSError: the disk refused; the old file stands.
    """
    account = table_from(snapshot)
    directory.mkdir(parents=True, exist_ok=True)
    path = path_of(directory, account.account_id)
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for piece in _pieces(snapshot):
            sealed = keys.seal(piece, CONTEXT)
            file.write(_LENGTH.pack(len(sealed)) + sealed)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync_directory(directory)
    return account.faults


def drop(directory: Path, account_id: str) -> None:
    """Remove an account's snapshot; an absent one is ignored."""
    path_of(directory, account_id).unlink(missing_ok=True)
    if directory.is_dir():
        _sync_directory(directory)


def load(directory: Path, account_id: str, keys: KeyRing, *, pause_s: float = 0.0) -> AccountTable:
    """Read one account's table.

    Args:
        pause_s: After each piece, in which other threads have the interpreter to themselves.
    Raises:
        BadSnapshot: missing, sealed with another key, changed, or not a snapshot.
    """
    return _read(path_of(directory, account_id), keys, pause_s)


def load_all(directory: Path, keys: KeyRing) -> Loaded:
    """Read every account's table in the folder; an absent folder is an empty one."""
    tables: list[AccountTable] = []
    faults: list[str] = []
    for path in sorted(directory.glob(f"*{SUFFIX}")) if directory.is_dir() else []:
        try:
            tables.append(_read(path, keys))
        except BadSnapshot as exc:
            faults.append(exc.detail)
    return Loaded(tuple(tables), tuple(faults))


def path_of(directory: Path, account_id: str) -> Path:
    """Where an account's snapshot lies. Refuses an identifier that would leave the folder."""
    if not account_id or not account_id.replace("_", "").replace("-", "").isalnum():
        raise BadSnapshot(f"an account's identifier was expected, got {account_id[:60]!r}")
    return directory / f"{account_id}{SUFFIX}"


def _read(path: Path, keys: KeyRing, pause_s: float = 0.0) -> AccountTable:
    try:
        reading = _Reading()
        for piece in _opened(path, keys):
            # row by row: a large account never exists as JSON all at once, nor is freed all at once
            reading.take(piece)
            if pause_s:
                time.sleep(pause_s)
        account = reading.table()
    except (OSError, Unsealable, BadSnapshot, KeyError, ValueError, TypeError, AttributeError, OverflowError) as exc:
        raise BadSnapshot(
            f"{path.name}: the snapshot cannot be used ({exc}); this account's calls wait for a new one"
        ) from exc
    if path.name != f"{account.account_id}{SUFFIX}":
        raise BadSnapshot(f"{path.name}: holds the snapshot of {account.account_id}")
    return account


def _opened(path: Path, keys: KeyRing) -> Iterator[Mapping[str, Any]]:
    """The pieces of a file in their order; raises BadSnapshot when one is missing, moved or of another snapshot."""
    place, first = 0, None
    with path.open("rb") as file:
        while length := file.read(_LENGTH.size):
            if len(length) < _LENGTH.size:
                raise BadSnapshot("it is cut off")
            piece = json.loads(keys.open(file.read(*_LENGTH.unpack(length)), CONTEXT))
            mark = piece.pop("of")
            first = first or mark
            if piece.pop("piece") != place or mark != first:
                raise BadSnapshot("a piece is missing or of another snapshot")
            place += 1
            yield piece
    if first is None or place != first[1]:
        raise BadSnapshot("pieces are missing")


def _pieces(snapshot: Mapping[str, Any]) -> Iterator[bytes]:
    """The shape in pieces; each names its place and, in `of`, one random word for this writing and how many there
    are.
    """
    cuts = [(name, at) for name in _LISTS for at in range(0, len(snapshot.get(name) or ()), ROWS_PER_PIECE)]
    of = [secrets.token_hex(8), len(cuts) + 1]
    yield _json({name: value for name, value in snapshot.items() if name not in _LISTS} | {"piece": 0, "of": of})
    for place, (name, at) in enumerate(cuts, start=1):
        yield _json({name: snapshot[name][at : at + ROWS_PER_PIECE], "piece": place, "of": of})


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _sync_directory(directory: Path) -> None:
    """Make a rename or removal in the folder itself durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- the JSON shape ---------------------------------------------------------------------------------------------------


def table_from(snapshot: Mapping[str, Any]) -> AccountTable:
    """The account's table from the JSON shape. A row that cannot be read is left out and named in `faults`.

    Raises:
        BadSnapshot: it names no account.
    """
    reading = _Reading()
    reading.take(snapshot)
    return reading.table()


class _Reading:
    """A table in the making; takes the shape whole or in pieces."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._faults: list[str] = []
        self._locations: list[DispatchableLocation] = []
        self._networks: list[Network | Attachment] = []
        self._phones: list[Phone] = []
        self._lines: list[Line] = []
        self._pbxs: list[Pbx] = []
        self._trunks: list[Trunk] = []
        self._numbers: list[Number] = []
        self._sightings: list[Sighting] = []
        self._confirmed: list[Confirmed] = []
        self._trunk_groups: list[tuple[str, tuple[str, ...]]] = []

    def take(self, piece: Mapping[str, Any]) -> None:
        self._head |= {name: value for name, value in piece.items() if name not in _LISTS}
        self._rows(piece, "locations", _location, self._locations)
        self._rows(piece, "networks", _network, self._networks)
        self._rows(piece, "phones", _phone, self._phones)
        self._rows(piece, "lines", _line, self._lines)
        self._rows(piece, "pbxs", _pbx, self._pbxs)
        self._rows(piece, "trunks", _trunk, self._trunks)
        self._rows(piece, "numbers", _number, self._numbers)
        self._rows(piece, "sightings", read_sighting, self._sightings)
        self._rows(piece, "confirmed", _confirmed, self._confirmed)
        self._rows(piece, "trunk_groups", _trunk_group, self._trunk_groups)

    def table(self) -> AccountTable:
        head = self._head
        account_id = head.get("account_id")
        if not isinstance(account_id, str) or not account_id:
            raise BadSnapshot("a snapshot with an account_id was expected, got one without")
        return AccountTable(
            account_id=account_id,
            revision=self._revision(),
            name=str(head.get("name") or ""),
            country=str(head.get("country") or "US"),
            timezone=str(head.get("timezone") or "UTC"),
            language=str(head.get("language") or "en"),
            default_location_id=_ref(head.get("default_location_id")),
            callback_number=_dialable(head.get("callback_number")),
            locations=MappingProxyType({location.id: location for location in self._locations}),
            networks=tuple(row for row in self._networks if isinstance(row, Network)),
            attachments=tuple(row for row in self._networks if isinstance(row, Attachment)),
            numbers=tuple(self._numbers),
            sightings=MappingProxyType({sighting.phone_id: sighting for sighting in self._sightings}),
            confirmed=tuple(self._confirmed),
            elin_hold_minutes=_minutes(head.get("elin_hold_minutes")),
            phones=tuple(self._phones),
            lines=tuple(self._lines),
            pbxs=MappingProxyType({pbx.id: pbx for pbx in self._pbxs}),
            trunks=tuple(sorted(self._trunks, key=lambda trunk: (trunk.priority, trunk.id))),
            faults=(*_sentences(head.get("unread")), *self._faults),
            trunk_groups=MappingProxyType(dict(self._trunk_groups)),
            trunk_group_id=_ref(head.get("trunk_group_id")),
        )

    def _revision(self) -> int:
        try:
            return int(self._head.get("revision") or 0)
        except (ValueError, TypeError, OverflowError) as exc:
            self._faults.append(f"revision: a number was expected: {exc!r:.200}")
            return 0

    def _rows(
        self, piece: Mapping[str, Any], name: str, read: Callable[[Mapping[str, Any]], _Row | None], rows: list[_Row]
    ) -> None:
        found = piece.get(name) or ()
        if not isinstance(found, list | tuple):
            self._faults.append(f"{name}: a list was expected, got {found!r:.60}")
            return
        for row in found:
            try:
                made = read(row)
            except _UNREADABLE as exc:
                label = row.get("id") or row.get("phone_id") if isinstance(row, Mapping) else row
                made, lacking = _read_without(name, row, read)
                what = f"{label!s:.60}, its {lacking}" if lacking else f"{label!s:.60}"
                self._faults.append(f"{name}: {what} cannot be read: {exc!r:.200}")
            if made is not None:
                rows.append(made)


def _read_without(name: str, row: object, read: Callable[[Mapping[str, Any]], _Row | None]) -> tuple[_Row | None, str]:
    """The row without the one field of it that cannot be read, and that field's name; (None, "") when that is no help.

    A PBX keeps what can be read of its addresses: with none of them its callers would be strangers.
    """
    if not isinstance(row, Mapping):
        return None, ""
    for field in _MAY_LACK.get(name, ()):
        kept = [each for each in _listed(row.get(field)) if _is_network(each)] if field == "sources" else None
        try:
            return read({**row, field: kept}), field
        except _UNREADABLE:
            continue
    return None, ""


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _is_network(text: object) -> bool:
    try:
        _cidr(str(text))
    except ValueError:
        return False
    return isinstance(text, str)


def _sentences(value: object) -> tuple[str, ...]:
    """What could not even be read from the database."""
    return tuple(str(each) for each in _listed(value))


def _location(row: Mapping[str, Any]) -> DispatchableLocation:
    return DispatchableLocation(
        id=_id(row["id"]),
        name=str(row.get("name") or ""),
        civic_address=CivicAddress.of(row.get("civic_address") or {}),
        geo=_geo(row.get("geo")),
        timezone=_ref(row.get("timezone")),
        callback_number=_dialable(row.get("callback_number")),
        onsite_number=_dialable(row.get("onsite_number")),
        status=str(row.get("status") or "draft"),
        validated_at=_instant(row.get("validated_at")),
        carrier_ids=tuple(
            sorted((str(profile), str(name)) for profile, name in (row.get("carrier_ids") or {}).items())
        ),
        trunk_group_id=_ref(row.get("trunk_group_id")),
    )


def is_same_address(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether calls from both tell the same place: `civic_address` and `geo` of each, as a location or a call's record
    holds them.
    """

    def told(row: Mapping[str, Any]) -> tuple[CivicAddress, Shape | None]:
        return CivicAddress.of(row.get("civic_address") or {}), _geo(row.get("geo"))

    return told(one) == told(other)


def _geo(row: Mapping[str, Any] | None) -> Shape | None:
    """A shape that cannot be on Earth is left out: a civic address beside it is still worth conveying."""
    if not row:
        return None
    try:
        return shape_of({name: value for name, value in row.items() if value is not None})
    except (ValueError, TypeError, AttributeError):
        return None


def _id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"an identifier was expected, got {value!r:.60}")
    return value


def _ref(value: object) -> str | None:
    """What another row is named by, kept once however many rows name it."""
    return sys.intern(value) if isinstance(value, str) and value else None


def _dialable(number: object) -> str | None:
    """A number that may stand in a SIP header; anything else counts as none."""
    return number if isinstance(number, str) and _NUMBER.fullmatch(number) else None


def _network(row: Mapping[str, Any]) -> Network | Attachment:
    """A subnet, or what a phone can be attached to. Raises ValueError for a kind or value that is neither."""
    kind, value = str(row.get("kind") or "subnet"), str(row["value"])
    location_id, pbx_id = _id(row["location_id"]), _ref(row.get("pbx_id"))
    if kind == "subnet":
        return Network(_id(row["id"]), _cidr(value), location_id, pbx_id)
    by = AttachedBy(kind)
    plain = _PLAIN[by](value)
    if plain is None:
        raise ValueError(f"a {by.value} was expected, got {value[:60]!r}")
    return Attachment(_id(row["id"]), by, plain, location_id, pbx_id)


_PLAIN: Mapping[AttachedBy, Callable[[str], str | None]] = {
    AttachedBy.BSSID: plain_mac,
    AttachedBy.SWITCH: plain_chassis,
    AttachedBy.SWITCH_PORT: plain_switch_port,
}


def _number(row: Mapping[str, Any]) -> Number:
    e164 = _dialable(row["e164"])
    if e164 is None or not e164.startswith("+"):
        raise ValueError(f"a number such as +15185550100 was expected, got {row['e164']!r:.40}")
    holder = row.get("held_by")
    return Number(
        id=_id(row["id"]),
        e164=e164,
        kind=str(row.get("kind") or "direct"),
        location_id=_ref(row.get("location_id")),
        line_id=_ref(row.get("line_id")),
        held_until=_instant(row.get("held_until")),
        held_by=NumberHolder(
            pbx_id=_ref(holder.get("pbx_id")),
            sip_user=str(holder.get("sip_user") or ""),
            extension=str(holder.get("extension") or ""),
            name=str(holder.get("name") or ""),
            call=str(holder.get("call") or ""),
        )
        if holder
        else None,
    )


def read_sighting(row: Mapping[str, Any]) -> Sighting:
    """A sighting as the snapshot and the `seen` command hold it.

    Raises:
        KeyError, TypeError, ValueError: it names no phone or no time, or says nothing of where.
    """
    chassis, port, bssid, ip = (str(row.get(name) or "") for name in ("chassis", "port", "bssid", "ip"))
    seen_at = _instant(row["seen_at"])
    if seen_at is None or not (chassis or bssid or ip):
        raise ValueError("a switch, access point or address and a time were expected")
    return Sighting(
        phone_id=_id(row["phone_id"]),
        chassis=plain_chassis(chassis) if chassis else None,
        port=plain_port(port) if port else None,
        bssid=plain_mac(bssid) if bssid else None,
        ip=plain_address(ip) if ip else None,
        source=sys.intern(str(row.get("source") or "")),
        seen_at=seen_at,
    )


def _confirmed(row: Mapping[str, Any]) -> Confirmed:
    network, confirmed_at = str(row["network"]), _instant(row["confirmed_at"])
    phone_id, line_id, bssid = _ref(row.get("phone_id")), _ref(row.get("line_id")), plain_mac(network)
    if confirmed_at is None or not (phone_id or line_id):
        raise ValueError("a phone or line and a time were expected")
    return Confirmed(
        id=_id(row["id"]),
        location_id=_id(row["location_id"]),
        confirmed_at=confirmed_at,
        phone_id=phone_id,
        line_id=line_id,
        network=None if bssid else _cidr(network),
        bssid=bssid,
    )


def _instant(value: object) -> datetime | None:
    """A UTC instant; one without an offset counts as UTC."""
    if not value:
        return None
    at = datetime.fromisoformat(str(value))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _minutes(value: object) -> int:
    is_known = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_080
    return value if is_known and isinstance(value, int) else ELIN_HOLD_MINUTES


def _cidr(text: str) -> IpNetwork:
    """A network or single address; host bits are forgiven; IPv4 mapped into IPv6 becomes IPv4, as addresses do."""
    network = ip_network(text.strip(), strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:
        return ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)
    return network


def _phone(row: Mapping[str, Any]) -> Phone:
    line_ids = tuple(sys.intern(_id(line_id)) for line_id in row.get("line_ids") or ())
    return Phone(
        _id(row["id"]), Mac(row["mac"].lower()), str(row.get("label") or ""), _ref(row.get("location_id")), line_ids
    )


def _line(row: Mapping[str, Any]) -> Line:
    return Line(
        id=sys.intern(_id(row["id"])),
        extension=str(row.get("extension") or ""),
        sip_user=str(row.get("sip_user") or ""),
        display_name=str(row.get("display_name") or ""),
        callback_number=_dialable(row.get("callback_number")),
        location_id=_ref(row.get("location_id")),
        pbx_id=_ref(row.get("pbx_id")),
    )


def _pbx(row: Mapping[str, Any]) -> Pbx:
    sources = tuple(dict.fromkeys(_cidr(source) for source in row.get("sources") or ()))
    return Pbx(
        _id(row["id"]),
        str(row.get("name") or ""),
        sources,
        _ref(row.get("default_location_id")),
        _ref(row.get("default_route")),
        tls_name=str(row.get("tls_name") or "").lower(),
        auth_user=str(row.get("auth_user") or ""),
        secret=_ref(row.get("secret")),
        registrar_host=str(row.get("registrar_host") or "").strip("[]"),
        registrar_port=int(row.get("registrar_port") or 5060),
        transport=str(row.get("transport") or "udp").lower(),
    )


def _trunk_group(row: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    return _id(row["id"]), tuple(_id(trunk_id) for trunk_id in row.get("trunk_ids") or ())


def _trunk(row: Mapping[str, Any]) -> Trunk:
    transport = str(row.get("transport") or "udp").lower()
    if transport not in {"udp", "tcp", "tls"}:
        raise ValueError(f"transport udp, tcp or tls was expected, got {transport!r}")
    host = str(row["host"]).strip("[]")
    if not _HOST.fullmatch(host):  # it goes into SIP headers as it stands
        raise ValueError(f"a host name or address was expected, got {host[:60]!r}")
    return Trunk(
        id=_id(row["id"]),
        name=str(row.get("name") or ""),
        priority=int(row.get("priority") or 0),
        host=host,
        port=5060 if row.get("port") is None else int(row["port"]),
        transport=transport,
        profile=str(row.get("profile") or "generic"),
        location_mode=str(row.get("location_mode") or "value"),
        test_number=_dialable(row.get("test_number")),
        last_resort=bool(row.get("last_resort")),
        enabled=bool(row.get("enabled", True)),
        auth_user=str(row.get("auth_user") or ""),
        secret=_ref(row.get("secret")),
        pings=bool(row.get("pings", True)),
    )
