"""What the dial plan of a file that was handed out does with emergency numbers, kept with the file as evidence (pure).

A file whose plan fails is never handed out (`render`): this says of one that was what had been proven. Reports name it
beside the entity tag of the file, so that nobody has to believe them.
"""

from collections.abc import Mapping
from typing import Any

from engine.provisioning import dialplan, override_proof, render
from engine.provisioning.render import PhoneConfig
from engine.provisioning.vendors import FileRule, Profile

MOST_FAULTS = 4


def of_file(
    profile: Profile, rule: FileRule, config: PhoneConfig, overrides: Mapping[str, str], body: bytes
) -> dict[str, Any] | None:
    """`numbers`: those that were dialled on every plan in the file; `faults`: why some do not leave at once, empty when
    all do. None: this kind of file holds no plan.

    Args:
        body: The file; its secrets may be masked, no plan depends on one.
    Raises:
        UnsafeValue: an account's own text that cannot be read as the phone would.
    """
    if rule.kind not in render.HOLDS_A_PLAN:
        return None
    text = body.decode("utf-8", "replace").replace("\r\n", "\n")
    if overrides:
        read = override_proof.read(profile, text)
        dialed = render.dial_settings(profile, read.text) if read.text else read.dialed
    else:
        dialed = render.dial_settings(profile, text)
    lines = tuple(line.number for line in config.lines)
    found = dialplan.faults(profile.dial_plan, dialed, config.emergency_numbers, lines)
    return {"numbers": list(config.emergency_numbers), "faults": list(found[:MOST_FAULTS])}
