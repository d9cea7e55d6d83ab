"""XML from outside, read strictly: UTF-8, no doctype, nothing fetched, bounded in size. Pure."""

from lxml import etree

MAX_XML_BYTES = 65_536
_WHITE = b" \t\r\n"


class BadXml(Exception):
    """Not XML that we read: `detail` says why."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def read_xml(data: bytes) -> etree._Element:
    """The root element. Comments and processing instructions are gone.

    Raises:
        BadXml: too large, not well-formed, not UTF-8, or with a doctype.
    """
    if len(data) > MAX_XML_BYTES:
        raise BadXml(f"at most {MAX_XML_BYTES} bytes of XML were expected, got {len(data)}")
    # the parser is told the encoding, so that none that the document declares can hide a doctype from this look
    if b"<!DOCTYPE" in data:
        raise BadXml("XML without a doctype was expected")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return etree.fromstring(data.strip(_WHITE), parser)
    except (etree.XMLSyntaxError, ValueError) as exc:
        raise BadXml(f"well-formed XML was expected: {exc}") from exc


def name_of(element: etree._Element) -> str:
    """The local name."""
    return str(etree.QName(element).localname)


def text_of(element: etree._Element) -> str:
    """The element's own text, its white space collapsed (xs:token)."""
    return " ".join((element.text or "").split())
