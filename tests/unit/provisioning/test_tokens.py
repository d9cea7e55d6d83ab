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
