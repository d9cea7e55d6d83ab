"""`/api/v1/phones/{id}/file-key`: what opens a phone's encrypted files, for somebody who types it into the phone."""

from aiohttp import web

from admin.api import answered, no_query, row_named
from admin.api.models import Answer
from admin.context import ACTOR, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.models import Phone
from engine.provisioning import safeguards


class FileKeyAnswer(Answer):
    """Whoever holds the key reads the phone's files off the wire."""

    phone_id: str
    scheme: str
    key: str
    iv: str
    folder: str


async def get_phone_file_key(request: web.Request) -> web.Response:
    no_query(request)
    phone = await row_named(request, Phone)
    made = await safeguards.reveal_file_key(request[SESSION], request[ACTOR], phone)
    shown = FileKeyAnswer(phone_id=phone.id, scheme=made.scheme, key=made.key, iv=made.iv, folder=made.folder)
    return answered(shown)


ROUTES = (
    Route(
        "GET", "/api/v1/phones/{id}/file-key", get_phone_file_key, Scope.PROVISIONING_REVEAL,
        Event.PHONE_FILE_KEY_REVEAL, step_up=True,
        operation=Operation("Reveal what opens the phone's encrypted files", answer=FileKeyAnswer, errors=(409,)),
    ),
)  # fmt: skip
