"""What stands in a file name that no phone filled in."""

import pytest

from engine.provisioning import diagnosis, tokens


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("{mac}.cfg", "{mac}"),
        ("%7Bmac%7D.cfg", "{mac}"),
        ("%5BPHONE_MAC_ADDRESS%5D-phone.cfg", "[PHONE_MAC_ADDRESS]"),
        ("%3CMAC%3E.cfg", "<MAC>"),
        ("cfg$mac.xml", "$mac"),
        ("$MA.xml", "$MA"),
        ("%mac%.cfg", "%mac%"),
        ("spa$PSN.cfg", "$PSN"),
        ("805ec0aabbcc.cfg", None),
        ("{}.cfg", None),
        ("", None),
    ],
)
def test_a_variable_is_found_through_its_escapes(name, variable):
    """P-05: phones and proxies write { and [ as escapes."""
    assert diagnosis.unfilled(name) == variable


def test_a_path_that_may_hold_a_token_is_never_read_as_a_name():
    """P-23: no room for a token on either side of the variable, nor for a folder."""
    token = tokens.mint()
    for name in (f"{token}%7Bmac%7D.cfg", f"p/{token}/%7Bmac%7D.cfg", f"%7Bmac%7D{token}", f"{token}.cfg"):
        assert diagnosis.legible(name) == ""
    for name in (f"{token}/805ec0aabbcc.cfg", f"a/{token}/b.cfg", f"p/{token[:31]}/x.cfg", f"a/{token}", "/a.cfg"):
        assert diagnosis.legible(name) == ""
        assert diagnosis.in_folders(name) == ()
    assert diagnosis.legible("yealink/T46U/805ec0aabbcc.cfg") == "805ec0aabbcc.cfg"
    assert diagnosis.legible("%7Bmac%7D.cfg") == "{mac}.cfg"
    assert diagnosis.legible("{mac}.cfg") == ""  # well formed as it stands
