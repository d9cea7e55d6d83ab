"""`callpoint doctor`, on the bootstrap: whether phones without a URL can find one."""

from importlib.util import find_spec

from sqlalchemy.ext.asyncio import AsyncSession

from engine.config import Config
from engine.findings import Finding
from engine.provisioning.store_bootstrap import has_ranges


async def bootstrap_findings(session: AsyncSession, config: Config) -> list[Finding]:
    """None where it is off, as it is by default."""
    section, findings = config.bootstrap, []
    if not section.tftp and not section.http:
        return []
    if section.tftp and find_spec("tftp") is None:
        detail = "[bootstrap] tftp is set, but its package is not here. Run: .venv/bin/pip install tftp==0.2.1"
        findings.append(Finding("bootstrap", "warning", detail))
    if not await has_ranges(session):
        detail = (
            "it is on, but no account has named the addresses its phones ask from, so that nobody is answered. Add "
            "them to the provisioning policy under Settings."
        )
        findings.append(Finding("bootstrap", "warning", detail))
    where = ", ".join(f"{name} {at}" for name, at in (("TFTP", section.tftp), ("HTTP", section.http)) if at)
    return findings or [Finding("bootstrap", "good", f"on: {where}")]
