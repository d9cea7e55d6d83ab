"""Language tags as RFC 5646 spells them, of languages that there are (pure)."""

import re

# ISO 639-1, and of ISO 639-3 languages that many callers speak and that have no code of two letters
_TWO_LETTERS = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es
et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj
kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv
ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti
tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_THREE_LETTERS = "ase ceb chr cmn fil gsw haw hmn ilo kea mam nan prs quc yue"
_KNOWN = frozenset(f"{_TWO_LETTERS} {_THREE_LETTERS}".split())
_TAG = re.compile(r"([A-Za-z]{2,3})(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?")  # language, script, region


def is_language(tag: str) -> bool:
    """Whether it is a tag such as `en`, `es-MX` or `zh-Hant-TW` of a known language."""
    found = _TAG.fullmatch(tag)
    return found is not None and found[1].lower() in _KNOWN
