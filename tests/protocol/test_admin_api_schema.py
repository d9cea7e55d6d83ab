"""Schemathesis against the running admin port: whatever is sent, the answer is one that the OpenAPI document names."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config._checks import NegativeDataRejectionConfig
from schemathesis.generation.meta import CoveragePhaseData, CoverageScenario
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
    use_after_free,
)

from admin.api.reference import openapi
from engine import crypto
from tests.factories import fresh_database
from tests.unit.admin.adminport import CIVIC, open_port

pytestmark = pytest.mark.enable_socket
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
    unsupported_method,
    ignored_auth,
    use_after_free,
]
EXAMPLES = 3  # of each operation; thousands were run by hand
# Half of all the library's systematic requests are these: every type but the right one in every field, and an object
# for each optional field, alone and beside the others. One reader reads all fields, so one in six is sent, always the
# same ones.
MANY_ALIKE = {
    CoverageScenario.INCORRECT_TYPE,
    CoverageScenario.OBJECT_REQUIRED_AND_OPTIONAL,
    CoverageScenario.VALID_OBJECT,
}
SENT_OF_ALIKE = 6
schema = schemathesis.openapi.from_dict(openapi())
# a write made from an older version is refused before its body is read (RFC 9110 §13.2.1)
REJECTIONS = ["400", "401", "403", "404", "412", "413", "415", "422", "428"]
schema.config.checks.negative_data_rejection = NegativeDataRejectionConfig.from_dict({"expected-statuses": REJECTIONS})
KNOWN: dict[str, str] = {}


class Server(threading.Thread):
    """The admin port on a loop of its own: schemathesis speaks HTTP without one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self.is_up = threading.Event()
        self.url = ""
        self.headers: dict[str, str] = {}

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        keys = crypto.create(self._folder / "keys.toml")
        database = await fresh_database(self._folder / "callpoint.db", keys)
        port = await open_port(database, keys)
        self.headers = (await port.site()).auth
        self.url = str(port.client.make_url("/")).rstrip("/")
        self.is_up.set()
        await self._ending.wait()
        await port.client.close()
        await database.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self.join(timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("schema"))
    running.start()
    assert running.is_up.wait(60), "the admin port did not come up"
    _fill(running)
    yield running
    running.end()


def _fill(server: Server) -> None:
    """One row of everything, so that identifiers can be right."""
    KNOWN.clear()
    for name, body in (
        ("locations", {"name": "HQ", "civic_address": CIVIC}),
        ("networks", {"value": "10.1.0.0/16", "location_id": "$locations"}),
        ("pbxs", {"name": "PBX", "sources": ["10.0.0.0/8"], "registrar_host": "pbx.example.com"}),
        ("trunks", {"name": "Carrier", "host": "sip.carrier.example"}),
        ("lines", {"extension": "101", "secret": "s3cret", "pbx_id": "$pbxs"}),
        ("phones", {"mac": "00:15:65:4a:a9:37", "vendor": "yealink", "model": "T46U", "lines": ["$lines"]}),
        ("notification-recipients", {"email": "frontdesk@example.com"}),
        ("users", {"email": "second@example.com", "role": "auditor"}),
        ("api-keys", {"name": "old", "scopes": ["phones:read"]}),
    ):
        answer = requests.post(f"{server.url}/api/v1/{name}", json=_known(body), headers=server.headers, timeout=60)
        assert answer.status_code == 201, answer.text
        KNOWN[name] = answer.json()["id"]


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_known(one) for one in value]
    return KNOWN[value[1:]] if isinstance(value, str) and value.startswith("$") else value


def is_left_out(case: schemathesis.Case) -> bool:
    """Whether it is one of many requests that are alike, and not the one of them that is sent."""
    phase = case.meta.phase.data if case.meta is not None else None
    if not isinstance(phase, CoveragePhaseData) or phase.scenario not in MANY_ALIKE:
        return False
    return crc32(f"{phase.location} {phase.description}".encode()) % SENT_OF_ALIKE != 0


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_operation_answers_as_the_document_says(case: schemathesis.Case, server: Server) -> None:
    """AD-API: malformed and well-formed requests alike get an answer the document describes, and never a 500."""
    if is_left_out(case):
        return
    name = case.path.split("/")[3]
    if case.path_parameters and name in KNOWN and len(str(case.path_parameters.get("id", ""))) % 2 == 0:
        case.path_parameters["id"] = KNOWN[name]
    if case.method == "PATCH" and len(str(case.body)) % 2 == 0 and case.headers is not None:
        case.headers["If-Match"] = "*"
    case.call_and_validate(base_url=server.url, headers=server.headers, checks=CHECKS, timeout=60)
