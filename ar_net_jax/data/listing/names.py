r"""Names of files and classes as text that every list, table and terminal can hold.

A file system allows any bytes in a name. Python stands bytes that are no UTF-8 for by lone
surrogates, which no UTF-8 file can hold, and a line feed in a name would break a list of lines.
Paths stay as they are; what a video or a class is *called* goes through here.
"""

import unicodedata


def text_of(name: str) -> str:
    r"""A file's name as text: bytes that are no UTF-8 and control characters are spelled out.

    >>> text_of("air drumming"), text_of("a\nb"), text_of("caf\udce9.mp4")
    ('air drumming', 'a\\nb', 'caf\\xe9.mp4')
    """
    readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if readable.isprintable():
        return readable
    return "".join(
        character.encode("unicode_escape").decode() if _breaks_lines(character) else character
        for character in readable
    )


def class_name(name: str) -> str:
    r"""What a class is called: as `text_of`, without blanks around it, accents composed.

    A Mac writes an accented letter of a file's name as two characters, a keyboard as one; both are
    the same class.

    >>> class_name(" cafe\u0301 "), class_name("cafe\u0301") == class_name("caf\u00e9")
    ('café', True)
    """
    return unicodedata.normalize("NFC", text_of(name.strip())) or r"\x20"


def _breaks_lines(character: str) -> bool:
    # Control characters, and what Unicode counts as the end of a line or paragraph.
    return unicodedata.category(character) in ("Cc", "Zl", "Zp")
