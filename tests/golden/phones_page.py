"""`docs/phones.md`: which phones are known, how well, and what each family asks for. Written from the profiles."""

from pathlib import Path

from engine.provisioning import vendors
from engine.provisioning.vendors import Profile, Support

PATH = Path(__file__).parents[2] / "docs" / "phones.md"
_GRADES = {
    Support.TESTED: "**tested**",
    Support.EXPECTED: "expected",
    Support.UNTESTED: "untested",
}
INTRODUCTION = """# Phones

{models} models of {families} families. A phone is served when its MAC address is in the account; the model
decides which file it gets. Three grades:

- **tested**: the bytes it is served are kept in the project and compared with every change
  (`tests/golden/phones/`).
- expected: the same grammar and generation as a tested model.
- untested: old or unusual software; look at the file before you rely on it.

*No file* in place of a grade: the model is known by name and served nothing, because its files have another
grammar or because 911 would leave it past the PBX.

Every file of every model is proven before it is served: 911, 933 and every other emergency number of the
country is sent with its last digit, unchanged. A file that fails is not sent, and the phone keeps the one it
has.

## What to enter on the phone

Its provisioning URL, as the Provisioning page shows it, with the slash at its end. Phones that do not add their
own file's name fill in a variable; the table names it. A wrong variable (`{{mac}}` on a Yealink) gets the same
404 as everything that is wrong, and the fetch log (linked on **Phones**) says what to write.

| family | file of the phone | variable | time zone |
|---|---|---|---|
{table}

(1) Set for the zones this family has a name or number for; any other is left as it is on the phone.

## A phone that says it is another model

A User-Agent that names another model than the one kept, where the files or the number of lines differ, holds
the phone back: it gets the one 404 until somebody accepts the new model or says that the old one is right
(`POST /api/v1/phones/{{id}}/release`). A renamed User-Agent, a firmware's new spelling or another model with
the same files never does.

## Another device in its place

A phone is replaced by **Replace device or model** on its page, or by a PATCH of it with another `mac`: lines,
keys, settings, label and location stay; what the former device told and was given is forgotten, and its MAC
address gets the one 404. It keeps the SIP passwords it was given until it is reset: where it was stolen or thrown
away, change them in the PBX and on the lines' pages.

## Softphones

Linphone and the Acrobits applications have no MAC address of their own. Leave it out when you add one: an
address is made for it, and its file carries it (`linphone-02….xml`). The QR code of the phone's page holds the
file's URL for Linphone; for Acrobits it holds `csc:` with the Cloud ID of your Cloud Softphone project (setting
`cloud_id`), whose external provisioning is the provisioning URL with `acrobits-%username%.xml` behind it. The
application sends 911 and 933 through your PBX, with the dispatchable location, and not to the mobile network.

## Limits worth knowing

- AudioCodes: all lines of one telephone register with the server of its first line; a line of another PBX is
  left off.
- Poly OBi: time zones of North America are written; adapters with a LINE port (OBi110, OBi212, OBi312) are
  served nothing, because their factory call route sends 911 out of that port. Codecs are left as they are on
  the device.
- Acrobits: one account for each application.

"""
_PARTLY = {"gigaset", "htek", "obihai"}


def page() -> str:
    """The whole page."""
    profiles = sorted(vendors.load().profiles.values(), key=lambda profile: profile.title.casefold())
    models = sum(len(profile.models) for profile in profiles)
    table = "\n".join(_row(profile) for profile in profiles)
    introduction = INTRODUCTION.format(models=models, families=len(profiles), table=table)
    return introduction + "\n".join(_family(profile) for profile in profiles)


def _row(profile: Profile) -> str:
    file = profile.device_files[-1].replace("{mac}", "<mac>").replace("{MAC}", "<MAC>").replace("{model}", "<model>")
    zone = "of its system" if profile.is_softphone else ("yes (1)" if profile.name in _PARTLY else "yes")
    variable = f"`{profile.mac_variable}`" if profile.mac_variable else "none"
    return f"| {profile.title} | `{file}` | {variable} | {zone} |"


def _family(profile: Profile) -> str:
    rows = [
        f"| {name} | {_GRADES[model.support] if model.template is not None else 'no file'} | {model.lines} |"
        for name, model in sorted(profile.models.items(), key=lambda pair: _natural(pair[0]))
    ]
    return "\n".join([f"## {profile.title}", "", "| model | grade | lines |", "|---|---|---|", *rows, ""])


def _natural(name: str) -> tuple[str, int, str]:
    """X4 before X10."""
    head = name.rstrip("0123456789").rstrip()
    digits = "".join(letter for letter in name if letter.isdigit())[:6]
    return ("".join(letter for letter in head if letter.isalpha())[:3], int(digits or 0), name)
