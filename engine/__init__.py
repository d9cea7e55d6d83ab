"""Callpoint's engine: provisioning, the SIP element, E911 and all that the admin side stands on."""
