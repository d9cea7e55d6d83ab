from engine import crypto
from engine.provisioning import tokens


def test_a_token_is_43_url_safe_characters_of_256_bits():
    """P-01: 256 random bits, unpadded base64url."""
    assert tokens.mint(lambda n: b"\xff" * n) == "_" * 42 + "8"
    assert tokens.mint(bytes) == "A" * 43
    minted = {tokens.mint() for _ in range(200)}
    assert len(minted) == 200
    assert all(tokens.is_token(token) for token in minted)


def test_other_texts_are_no_tokens():
    good = tokens.mint()
    for text in ("", good[:-1], good + "A", good[:-1] + "=", good[:-1] + "/", good + "\n", "é" * 43, good[:-1] + "%"):
        assert not tokens.is_token(text), text


def test_the_index_depends_on_token_and_key(tmp_path):
    keys, others = crypto.create(tmp_path / "a"), crypto.create(tmp_path / "b")
    token = tokens.mint()
    assert tokens.index(keys, token) == tokens.index(keys, token)
    assert tokens.index(keys, token) != tokens.index(others, token)
    assert tokens.index(keys, token) != tokens.index(keys, tokens.mint())
    assert len(tokens.index(keys, "\x00 é /")) == 64


def test_redaction_leaves_the_file_name_and_no_token():
    """P-23: no live token in any log."""
    token = tokens.mint()
    for text in (
        f"GET /p/{token}/001565aabbcc.cfg HTTP/1.1",
        f'"http://h/p/{token}"',
        f"/p/{token}?x",
        f"/P/{token}%2Fx",
        f"{token}.cfg",
        f"Yealink {token}",
        f"x{token}_y",
    ):
        assert token not in tokens.redact(text)
    assert tokens.redact(f"GET /p/{token}/001565aabbcc.cfg") == "GET /p/[token]/001565aabbcc.cfg"


def test_no_part_of_the_asked_token_is_left_in_what_the_asker_says():
    """P-23: neither most of it, nor pieces, nor another writing of it."""
    token = "q0Zx-9fTnWb3_LkVr7YhPd2MsGcJ5eUaXo8iRtKyB1w"
    spread = " ".join(token[at : at + 3] for at in range(0, 43, 3))
    double = token.replace("-", "%252d")
    for text in (
        token[:42], token[1:], token[:21] + " " + token[21:], token[7:37] + ".cfg", token.replace("-", "%2d"), double,
        spread, token.upper(), "a" + token[:12] + "b", "".join(f"%{ord(letter):02x}" for letter in token), token[:8],
        "/".join(token[at : at + 9] for at in range(0, 43, 9)),
    ):  # fmt: skip
        shown = tokens.without(f"Yealink SIP-T46U {text} x", token)
        assert tokens.REDACTED in shown, text
        assert not any(token[at : at + 8] in shown for at in range(36)), text
        assert text not in shown


def test_what_is_no_part_of_the_token_stands_as_it_was():
    token = "q0Zx-9fTnWb3_LkVr7YhPd2MsGcJ5eUaXo8iRtKyB1w"
    for text in (
        "Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:01", "805ec0aabb01.cfg", "", "T46U 100% %", token[:7],
        "é\udcff %ff",
    ):  # fmt: skip
        assert tokens.without(text, token) == text
    name = f"{token[5:35]}.cfg"
    assert tokens.shown_again(name, token) == tokens.shown(name, token) == "[token].cfg"
    assert tokens.without("805ec0aabb01 Yealink", "805ec0aabb01") == "805ec0aabb01 Yealink"  # a wrong URL is no token
    assert tokens.without(f"a {token[:20]} b {token[20:]} c", token) == "a [token] b [token] c"
