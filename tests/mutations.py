"""Valid files, damaged: what a cut download, a failing disk, a wrong program or an attacker makes of them."""

from __future__ import annotations

from hypothesis import strategies as st

_POKES = (
    b"\0",
    b"\0" * 600,
    b"\xff" * 8,
    b"\n",
    b"\r",
    b'"',
    b",",
    b";",
    b"\t",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"9" * 40,
    b"\x1b[2J",
)


@st.composite
def mutations(draw: st.DrawFn, valid: bytes) -> bytes:
    """Draw `valid` after one to four changes: cut off, bits turned over, parts lost, doubled, replaced or put in."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(1, 700)))
        kind = draw(st.sampled_from(["cut", "flip", "lose", "double", "zero", "poke", "overwrite"]))
        if kind == "cut":
            del content[start:]
        elif kind == "flip" and start < len(content):
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "lose":
            del content[start:stop]
        elif kind == "double":
            content[start:start] = content[start:stop]
        elif kind == "zero":
            content[start:stop] = bytes(stop - start)
        elif kind == "poke":
            content[start:start] = draw(st.sampled_from(_POKES))
        elif kind == "overwrite":
            content[start : start + 4] = draw(st.binary(min_size=1, max_size=4))
    return bytes(content)
