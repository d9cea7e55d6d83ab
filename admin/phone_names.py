"""Makers and models as people call them: `Cisco SPA301`, not `cisco_spa SPA301` nor `Cisco SPA SPA301`."""

from engine.provisioning import vendors


def maker_name(vendor: str) -> str:
    """A vendor as its profile calls it; one without a profile by its stored name."""
    profile = vendors.known().profiles.get(vendor)
    return profile.title if profile is not None else vendor.replace("_", " ").title()


def model_name(vendor: str, model: str) -> str:
    """Maker and model, with the words once that both of them hold: `Acrobits` makes `Acrobits Softphone`."""
    said = maker_name(vendor).split()
    for at in range(len(said)):
        if model.lower().startswith(" ".join(said[at:]).lower()):
            said = said[:at]
            break
    return " ".join([*said, model]).strip()
