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
_LONG = 20  # characters of a word that may have to break
# Widths of glyphs in Computer Modern Roman at 10 points (cmr10.tfm), in units of the size; others are taken for 0.556.
_WIDTHS = {
    letter: width
    for letters, width in (
        ("il.,:;'!|[]", 0.278), ("fj", 0.306), ("- ", 0.334), ("I", 0.361), ("rst()", 0.394), ("cez", 0.444),
        ("0123456789ago*/", 0.5), ("kqvxy", 0.528), ("L", 0.625), ("FZ", 0.653), ("EPB", 0.708), ("wCTR", 0.736),
        ("AHNUVXYD", 0.764), ("GKOQ±×~<>+=", 0.785), ("m%&@", 0.834), ("M", 0.917), ("W", 1.028),  # noqa: RUF001
    )
    for letter in letters
}  # fmt: skip
_BOLD, _CODE = 1.16, 0.53


def escaped(text: str, *, breaks: bool = False) -> str:
    """Return `text` as LaTeX; `code` becomes typewriter, and its dashes stay two dashes.

    breaks: let long words break after their punctuation, for columns of text and notes. A character that pdfLaTeX's
    fonts lack becomes ASCII.
    """
    pieces = " ".join(text.split()).split("`")
    for number, piece in enumerate(pieces):
        code = number % 2 == 1
        words = (_breakable(word, code=code) if breaks and len(word) >= _LONG else word for word in piece.split(" "))
        piece = "".join(map(_character, " ".join(words)))
        pieces[number] = f"\\texttt{{{piece.replace('--', '-{}-')}}}" if code else piece
    return "".join(pieces)


def _breakable(word: str, *, code: bool) -> str:
    """Let a line end behind a hyphen in typewriter (elsewhere it may anyway), a slash, a dot, and inside a digest."""
    word = re.sub(rf"([{'-' * code}/_.=:,]+)(?=\w)", rf"\1{_BREAK}", word)
    return re.sub(r"(\w{12})(?=\w{4})", rf"\1{_BREAK}", word)


def _character(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    if letter.isascii() or letter in _LETTERS:
        return letter
    apart = unicodedata.normalize("NFD", letter)
    if len(apart) == 2 and apart[0].isascii() and apart[0].isalpha() and apart[1] in _ACCENTS:
        return letter
    return "".join(_LATEX.get(sign, sign) for sign in to_ascii(letter))


def number_or_text(text: str) -> str:
    """Return the text of a cell: a minus before a digit is a sign there, and a dash alone an en dash."""
    if text == "-":
        return "--"
    return re.sub(r"(?<![\w}])-(?=\.?\d)", "$-$", escaped(text))


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Return how wide a line of text is, in points, in a font of `size` points."""
    pieces = text.split("`")
    plain = sum(_WIDTHS.get(letter, 0.556) for piece in pieces[::2] for letter in piece) * (_BOLD if bold else 1)
    return size * (plain + _CODE * sum(map(len, pieces[1::2])))
