"""`callpoint doctor`, on location: whether references can be served, and whether the validator answers."""

from urllib.parse import urlsplit

from engine.config import Config
from engine.doctor.sip import answers
from engine.findings import Finding
from engine.models import LocationMode, Trunk

_BY_REFERENCE = {LocationMode.REFERENCE, LocationMode.BOTH}


def reference_findings(what: str, trunk: Trunk, config: Config) -> list[Finding]:
    """A trunk that wants location references needs an address under which its carrier can fetch them."""
    if trunk.location_mode not in _BY_REFERENCE:
        return []
    url = config.provisioning.public_url
    if not url:
        detail = (
            f"its calls shall carry a location reference, but [provisioning] public_url is empty, so the location goes "
            f"by value instead of `{trunk.location_mode}`. Set public_url to what the carrier can reach."
        )
        return [Finding(what, "warning", detail)]
    if not url.lower().startswith("https://"):
        detail = (
            f"its location references stand under {url}, which is not https: a carrier may refuse to fetch them "
            "(RFC 6753), and anybody on the way can read them. Serve the phones' port over TLS."
        )
        return [Finding(what, "warning", detail)]
    return []


async def validator_findings(config: Config) -> list[Finding]:
    """The LoST server that validates addresses; none is a choice, not a fault."""
    return [await validator_finding(config.e911.lost_url)] if config.e911.lost_url else []


async def validator_finding(url: str) -> Finding:
    """Whether the LoST server there answers."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if await answers(host, port):
        return Finding("address validator", "good", f"{host}:{port} answers")
    detail = f"{host}:{port} does not answer: addresses cannot be validated now. No 911 call waits for it."
    return Finding("address validator", "warning", detail)
