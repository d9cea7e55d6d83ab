"""What is secret in a SIP message, masked for the record."""

from engine.e911.masking import without_credentials

MESSAGE = (
    "INVITE sip:911@x SIP/2.0\r\nproxy-AUTHORIZATION : Digest username=a,\r\n response=b\r\n"
    "Authorization: Digest c\r\nX-Callpoint-Proof: d\r\nTo: <sip:911@x:5060>\r\n"
    "From: <sip:101:pa$$wd@10.0.0.1:5060>\r\n\r\n"
    "v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3|2^20\r\n"
    "a=ice-pwd:asd88fgpdd\r\nk=clear:xyz\r\n"
    "a=sendrecv\r\n"
)


def test_credentials_are_masked_with_their_folded_lines() -> None:
    """E-12: Authorization, Proxy-Authorization and our own proof, however spelled; passwords and keys; nothing else."""
    shown = without_credentials(MESSAGE)
    secrets = ("username=a", "response=b", "Digest c", ": d", "pa$$wd", "d0RmdmcmVCspeEc3", "asd88", "xyz")
    assert not any(secret in shown for secret in secrets)
    for kept in ("To: <sip:911@x:5060>", "<sip:101:(masked)@10.0.0.1:5060>", "|2^20", "a=sendrecv", "SHA1_80 inline:"):
        assert kept in shown
    assert shown.count("(masked)") == 7


def test_a_masked_message_stays_as_it_is() -> None:
    """E-12: the journal may be read again."""
    shown = without_credentials(MESSAGE)
    assert without_credentials(shown) == shown
