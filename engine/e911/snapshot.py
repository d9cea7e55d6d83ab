"""One account's location table on disk: written by the main process after a commit, read by the SIP process and at
its start.

A file `<account_id>.sealed` is sealed as a whole; inside, the JSON object is cut into lines of a few hundred rows, so
that reading a large account in a thread never holds the interpreter for longer than a line takes. It is replaced in
one step: a reader sees the old table or the new one. A file that cannot be read is skipped and reported; every other
account keeps its 911 calls.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from engine.crypto import KeyRing, Unsealable
from engine.e911.location import (
    AccountTable,
    CivicAddress,
    DispatchableLocation,
    Geo,
    IpNetwork,
    Line,
    Mac,
    Network,
    Pbx,
    Phone,
    Trunk,
)

CONTEXT = "snapshot"
SUFFIX = ".sealed"
ROWS_PER_LINE = 256
_LISTS = ("locations", "networks", "phones", "lines", "pbxs", "trunks")
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


def save(directory: Path, snapshot: Mapping[str, Any], keys: KeyRing) -> Path:
    """Write one account's snapshot, durable on return.

    Raises:
        BadSnapshot: it names no account; nothing was written.
        OSError: the disk refused; the old file stands.
    """
    account = table_from(snapshot)
    directory.mkdir(parents=True, exist_ok=True)
    path = path_of(directory, account.account_id)
    fresh = path.with_suffix(".new")
    data = keys.seal(b"\n".join(_lines(snapshot)), CONTEXT)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync_directory(directory)
    return path


def drop(directory: Path, account_id: str) -> None:
    """Remove an account's snapshot; an absent one is ignored."""
    path_of(directory, account_id).unlink(missing_ok=True)
    if directory.is_dir():
        _sync_directory(directory)


def load(directory: Path, account_id: str, keys: KeyRing) -> AccountTable:
    """Read one account's table.

    Raises:
        BadSnapshot: missing, sealed with another key, changed, or not a snapshot.
    """
    return _read(path_of(directory, account_id), keys)


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


def _read(path: Path, keys: KeyRing) -> AccountTable:
    try:
        data = keys.open(path.read_bytes(), CONTEXT)
        snapshot: dict[str, Any] = {}
        for line in data.split(b"\n"):
            for name, value in json.loads(line).items():
                snapshot[name] = snapshot[name] + value if name in snapshot and name in _LISTS else value
        account = table_from(snapshot)
    except (OSError, Unsealable, BadSnapshot, ValueError, TypeError, AttributeError) as exc:
        raise BadSnapshot(
            f"{path.name}: the snapshot cannot be used ({exc}); this account's calls wait for a new one"
        ) from exc
    if path.name != f"{account.account_id}{SUFFIX}":
        raise BadSnapshot(f"{path.name}: holds the snapshot of {account.account_id}")
    return account


def _lines(snapshot: Mapping[str, Any]) -> Iterator[bytes]:
    yield _json({name: value for name, value in snapshot.items() if name not in _LISTS})
    for name in _LISTS:
        rows = snapshot.get(name) or []
        for at in range(0, len(rows), ROWS_PER_LINE):
            yield _json({name: rows[at : at + ROWS_PER_LINE]})


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
    account_id = snapshot.get("account_id")
    if not isinstance(account_id, str) or not account_id:
        raise BadSnapshot("a snapshot with an account_id was expected, got one without")
    faults: list[str] = []
    locations = _rows(snapshot, "locations", _location, faults)
    pbxs = _rows(snapshot, "pbxs", _pbx, faults)
    trunks = _rows(snapshot, "trunks", _trunk, faults)
    networks = _rows(
        {"networks": [row for row in snapshot.get("networks") or () if row.get("kind", "subnet") == "subnet"]},
        "networks", _network, faults,
    )  # fmt: skip
    return AccountTable(
        account_id=account_id,
        revision=int(snapshot.get("revision") or 0),
        name=str(snapshot.get("name") or ""),
        country=str(snapshot.get("country") or "US"),
        timezone=str(snapshot.get("timezone") or "UTC"),
        language=str(snapshot.get("language") or "en"),
        default_location_id=_ref(snapshot.get("default_location_id")),
        callback_number=_dialable(snapshot.get("callback_number")),
        locations=MappingProxyType({location.id: location for location in locations}),
        networks=networks,
        phones=_rows(snapshot, "phones", _phone, faults),
        lines=_rows(snapshot, "lines", _line, faults),
        pbxs=MappingProxyType({pbx.id: pbx for pbx in pbxs}),
        trunks=tuple(sorted(trunks, key=lambda trunk: (trunk.priority, trunk.id))),
        faults=tuple(faults),
    )


def _rows(
    snapshot: Mapping[str, Any], name: str, read: Callable[[Mapping[str, Any]], _Row], faults: list[str]
) -> tuple[_Row, ...]:
    rows: list[_Row] = []
    found: Iterable[Any] = snapshot.get(name) or ()
    for row in found:
        try:
            rows.append(read(row))
        except (KeyError, ValueError, TypeError, AttributeError) as exc:
            label = row.get("id") if isinstance(row, Mapping) else row
            faults.append(f"{name}: {label!s:.60} cannot be read: {exc!r:.200}")
    return tuple(rows)


def _location(row: Mapping[str, Any]) -> DispatchableLocation:
    validated_at = row.get("validated_at")
    return DispatchableLocation(
        id=_id(row["id"]),
        name=str(row.get("name") or ""),
        civic_address=CivicAddress.of(row.get("civic_address") or {}),
        geo=_geo(row.get("geo")),
        timezone=_ref(row.get("timezone")),
        callback_number=_dialable(row.get("callback_number")),
        onsite_number=_dialable(row.get("onsite_number")),
        status=str(row.get("status") or "draft"),
        validated_at=datetime.fromisoformat(validated_at) if validated_at else None,
    )


def _geo(row: Mapping[str, Any] | None) -> Geo | None:
    """Coordinates that cannot be on Earth are left out: a civic address beside them is still worth conveying."""
    if not row:
        return None
    try:
        geo = Geo(
            float(row["latitude"]),
            float(row["longitude"]),
            _metres(row.get("altitude_m")),
            _metres(row.get("radius_m")),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return geo if -90 <= geo.latitude <= 90 and -180 <= geo.longitude <= 180 else None


def _metres(value: object) -> float | None:
    return None if value is None else float(str(value))


def _id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"an identifier was expected, got {value!r:.60}")
    return value


def _ref(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _dialable(number: object) -> str | None:
    """A number that may stand in a SIP header; anything else counts as none."""
    return number if isinstance(number, str) and _NUMBER.fullmatch(number) else None


def _network(row: Mapping[str, Any]) -> Network:
    return Network(_id(row["id"]), _cidr(row["value"]), _id(row["location_id"]), _ref(row.get("pbx_id")))


def _cidr(text: str) -> IpNetwork:
    """A network or single address; host bits are forgiven; IPv4 mapped into IPv6 becomes IPv4, as addresses do."""
    network = ip_network(text.strip(), strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:
        return ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)
    return network


def _phone(row: Mapping[str, Any]) -> Phone:
    line_ids = tuple(_id(line_id) for line_id in row.get("line_ids") or ())
    return Phone(
        _id(row["id"]), Mac(row["mac"].lower()), str(row.get("label") or ""), _ref(row.get("location_id")), line_ids
    )


def _line(row: Mapping[str, Any]) -> Line:
    return Line(
        id=_id(row["id"]),
        extension=str(row.get("extension") or ""),
        sip_user=str(row.get("sip_user") or ""),
        display_name=str(row.get("display_name") or ""),
        callback_number=_dialable(row.get("callback_number")),
        location_id=_ref(row.get("location_id")),
        pbx_id=_ref(row.get("pbx_id")),
    )


def _pbx(row: Mapping[str, Any]) -> Pbx:
    sources = tuple(_cidr(source) for source in row.get("sources") or ())
    return Pbx(
        _id(row["id"]),
        str(row.get("name") or ""),
        sources,
        _ref(row.get("default_location_id")),
        _ref(row.get("default_route")),
    )


def _trunk(row: Mapping[str, Any]) -> Trunk:
    transport = str(row.get("transport") or "udp").lower()
    if transport not in {"udp", "tcp"}:
        raise ValueError(f"transport udp or tcp was expected, got {transport!r}")
    host = str(row["host"]).strip("[]")
    if not _HOST.fullmatch(host):  # it goes into SIP headers as it stands
        raise ValueError(f"a host name or address was expected, got {host[:60]!r}")
    return Trunk(
        id=_id(row["id"]),
        name=str(row.get("name") or ""),
        priority=int(row.get("priority") or 0),
        host=host,
        port=int(row.get("port") or 5060),
        transport=transport,
        profile=str(row.get("profile") or "generic"),
        location_mode=str(row.get("location_mode") or "value"),
        test_number=_dialable(row.get("test_number")),
        last_resort=bool(row.get("last_resort")),
        enabled=bool(row.get("enabled", True)),
    )
