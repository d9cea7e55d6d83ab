"""Operations on what guards an account's files: its provisioning policy and its phones' file keys. Nobody here
commits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store_outdated import outdate
from engine.errors import Conflict, FieldFault, Invalid, NotFound
from engine.models import Account, Phone
from engine.provisioning import envelope, sealing, store, store_safeguards, vendors
from engine.provisioning.envelope import Scheme
from engine.provisioning.policy import ClientCertificates, Policy


@dataclass(frozen=True, slots=True)
class FileKey:
    """What is typed into a phone by hand so that it reads its encrypted files: key, initial vector where the format
    keeps one on the phone, and the folder that follows the provisioning URL.
    """

    scheme: Scheme
    key: str = field(repr=False)
    iv: str = field(repr=False)
    folder: str


def policy_of(account: Account) -> Policy:
    """The policy that holds for the account's phones now. Raises Invalid: what is stored is no policy."""
    return Policy.of(account.provisioning_policy or {})


async def update_policy(
    session: AsyncSession, actor: Actor, account: Account, changes: Mapping[str, Any], *, sees_certificates: bool
) -> Policy:
    """Change the fields that are named; phones are judged by the new policy from the commit on. Returns it whole.

    Args:
        sees_certificates: Whether this installation asks phones for theirs; without, nobody could show a required one.

    Raises:
        Invalid: every bad field; files are to be encrypted and no phone of the account could open one.
    """
    policy = wished_policy(account, changes, sees_certificates=sees_certificates)
    encrypts_anew = policy.encrypt_files != policy_of(account).encrypt_files
    if policy.encrypt_files and encrypts_anew:
        refuse_vain_encryption(await store_safeguards.phones_by_vendor(session, account.id))
    account.provisioning_policy = policy.stored()
    if policy.encrypt_files:
        for phone in await store.phones_of(session, account.id):
            give_key(phone, policy)
    if encrypts_anew:
        sealed = [profile.name for profile in vendors.known().profiles.values() if profile.encryption is not None]
        await outdate(session, Phone.account_id == account.id, Phone.vendor.in_(sealed))
    record(session, actor, Event.PROVISIONING_POLICY_UPDATE, account)
    return policy


def wished_policy(account: Account, changes: Mapping[str, Any], *, sees_certificates: bool) -> Policy:
    """The policy as it would be; see `update_policy`, whose faults it has."""
    policy = Policy.of({**policy_of(account).values(), **changes})
    if policy.client_certificates is ClientCertificates.REQUIRED and not sees_certificates:
        fault = FieldFault(
            "client_certificates",
            "Phones are asked for no certificate here, so every one of them would be turned away, phones that are"
            " reset and hold no 911 settings too. Set [provisioning] client_ca, with TLS or a trusted proxy, first.",
        )
        raise Invalid("The provisioning policy cannot be stored like this.", fields=(fault,))
    return policy


def refuse_vain_encryption(counts: Mapping[str, int]) -> None:
    """Raise Invalid where no phone of the account, of the numbers by vendor, could open an encrypted file: somebody
    would think that they are protected.
    """
    if not counts or phones_in_clear(counts) < sum(counts.values()):
        return
    profiles = vendors.known().profiles
    titles = ", ".join(sorted(profiles[vendor].title if vendor in profiles else vendor for vendor in counts))
    raise Invalid("No phone would be protected.", fields=(FieldFault("encrypt_files", clear_sentence(titles)),))


def clear_sentence(title: str) -> str:
    """Why a family's files are not encrypted, and what protects them instead; `title`: the family's."""
    return (
        f"{title} phones read no encrypted file whose format is published well enough to be checked: their files leave "
        "in clear, with encryption on too. Give them an https URL, and require their makers' certificates where they "
        "hold one."
    )


def phones_in_clear(counts: Mapping[str, int]) -> int:
    """How many phones are sent clear files even where files are encrypted, of the numbers by vendor."""
    profiles = vendors.known().profiles
    return sum(n for vendor, n in counts.items() if vendor not in profiles or profiles[vendor].encryption is None)


def give_key(phone: Phone, policy: Policy) -> None:
    """Make the phone's file key where files are encrypted and it has none. A key is never replaced: a phone that holds
    one could not open what another sealed.
    """
    if policy.encrypt_files and phone.file_key is None:
        phone.file_key = envelope.mint()


async def reveal_file_key(session: AsyncSession, actor: Actor, phone: Phone) -> FileKey:
    """What opens the phone's files; an audited read.

    Raises:
        Conflict: its family decrypts no file. NotFound: it was given no key.
    """
    profile = vendors.known().profiles.get(phone.vendor)
    if profile is None or profile.encryption is None:
        title = profile.title if profile is not None else phone.vendor
        raise Conflict(f"This phone has no file key. {clear_sentence(title)}")
    if phone.file_key is None:
        raise NotFound("This phone has no file key. Keys are made when file encryption is switched on.")
    record(session, actor, Event.PHONE_FILE_KEY_REVEAL, phone)
    scheme = profile.encryption
    key, iv = envelope.phone_key(scheme, phone.file_key), envelope.phone_iv(scheme, phone.file_key)
    return FileKey(scheme, key, iv, sealing.FOLDER)
