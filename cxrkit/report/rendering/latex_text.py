"""Text for LaTeX: what must be escaped, where a line may break, and how wide it will be in Computer Modern."""

from __future__ import annotations

import re
import unicodedata

from cxrkit.base.plain_text import to_ascii

_BREAK = "\u200b"  # a place where a line may end
_GREEK = {
    letter: f"$\\{name}$"
    for letter, name in {"α": "alpha", "β": "beta", "κ": "kappa", "μ": "mu", "σ": "sigma", "Δ": "Delta"}.items()  # noqa: RUF001
}
_LATEX = {
    "\\": "\\textbackslash{}",
    "±": "$\\pm$",
    "×": "$\\times$",  # noqa: RUF001
    "·": "$\\cdot$",
    "†": "$\\dagger$",
    "≤": "$\\leq$",
    "≥": "$\\geq$",
    "≈": "$\\approx$",
    "−": "$-$",  # noqa: RUF001
    "→": "$\\rightarrow$",
    "√": "$\\surd$",
    "²": "$^2$",
    "°": "$^\\circ$",
    "–": "--",  # noqa: RUF001
    "—": "---",
    "…": "\\dots{}",
    "“": "``",
    "”": "''",
    "’": "'",  # noqa: RUF001
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    _BREAK: "\\allowbreak{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    **_GREEK,
}
_ACCENTS = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")
_LETTERS = frozenset("ßæøåœÆØÅŒłŁ")  # which OT1 has by themselves
_LONG = 16  # characters of a word that may have to break
# Widths in Computer Modern Roman, in units of the font size; others are letters of about half an em.
_NARROW, _SLIM, _BROAD = frozenset("ijl.,:;'!|I"), frozenset("frst()[]-/` "), frozenset("mwMW%@±×~")  # noqa: RUF001
_BOLD, _CODE = 1.16, 0.53


def escaped(text: str, *, breaks: bool = False) -> str:
    """Return `text` as LaTeX; `code` becomes typewriter, and its dashes stay two dashes.

    breaks: let long words break after their punctuation, for columns of text and notes. A character that pdfLaTeX's
    fonts lack becomes ASCII.
    """
    pieces = " ".join(text.split()).split("`")
    for number, piece in enumerate(pieces):
        code = number % 2 == 1
        if breaks:
            piece = re.sub(rf"\S{{{_LONG},}}", lambda word: _breakable(word[0]), piece)
        piece = "".join(map(_character, piece))
        pieces[number] = f"\\texttt{{{piece.replace('--', '-{}-')}}}" if code else piece
    return "".join(pieces)


def _breakable(word: str) -> str:
    word = re.sub(r"([/_.=:,\-]+)(?=\w)", rf"\1{_BREAK}", word)
    return re.sub(r"(\w{12})(?=\w{4})", rf"\1{_BREAK}", word)  # a digest has no punctuation


def _character(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    if letter.isascii() or letter in _LETTERS:
        return letter
    base, *marks = unicodedata.normalize("NFD", letter)
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        return letter
    return "".join(_LATEX.get(sign, sign) for sign in to_ascii(letter))


def number_or_text(text: str) -> str:
    """Return the text of a cell: a minus before a digit is a sign there, and a dash alone an en dash."""
    if text == "-":
        return "--"
    return re.sub(r"(?<![\w}])-(?=\.?\d)", "$-$", escaped(text))


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Return about how wide a line of text is, in points, in a font of `size` points; rather too wide than too narrow.

    Glyphs were measured in cmr10: digits 0.50, "m" 0.83, capitals 0.56 to 0.92 of the size.
    """
    pieces = text.split("`")
    plain = sum(_glyph(letter) for piece in pieces[::2] for letter in piece) * (_BOLD if bold else 1)
    return size * (plain + _CODE * sum(map(len, pieces[1::2])))


def _glyph(letter: str) -> float:
    if letter in _NARROW:
        return 0.29 if letter != "I" else 0.37
    if letter in _SLIM:
        return 0.40
    if letter.isdigit():
        return 0.51
    return 0.9 if letter in _BROAD else 0.76 if letter.isupper() else 0.53
