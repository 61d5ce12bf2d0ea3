"""One question to a web server, and what its answer means: go on, try again, or give up.

The standard library's urllib is enough: it follows redirects, speaks TLS, and goes by HTTPS_PROXY and NO_PROXY. What a
larger library would add, trying again, has to be done here anyway: trying again means to ask for another range.
"""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import IO
from urllib.parse import urlsplit

from cxrkit import __version__

SILENCE_SECONDS = 60.0  # a connection on which nothing comes for so long is given up
_LONGEST_WAIT_SECONDS = 120.0  # whatever a server asks for
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # a server says these when it may soon do better
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class Broken(Exception):  # noqa: N818 - it says what the connection is
    """It may go on: the text says what happened.

    `wait_seconds`: what the server asks to wait. `host`: which cannot be reached at all; "" where something came.
    """

    def __init__(self, text: str, wait_seconds: float | None = None, host: str = "") -> None:
        """Keep the text, the wait, and the host."""
        super().__init__(text)
        self.wait_seconds = wait_seconds
        self.host = host


class Refused(Exception):  # noqa: N818 - it says what the file is
    """It will not go on: the text says why, `remedy` what helps; "" for what helps any file: NIH's page."""

    def __init__(self, text: str, remedy: str = "") -> None:
        """Keep the text, and the remedy."""
        super().__init__(text)
        self.remedy = remedy


class WrongRange(Exception):  # noqa: N818 - it says what came
    """The server answers with another piece than the one that was asked for, or does not have that many bytes."""

    def __init__(self, text: str, total: int | None) -> None:
        """Keep the text, and how many bytes the server says that the file has."""
        super().__init__(text)
        self.total = total


@dataclass
class Answer:
    """What a server sends."""

    start: int
    """At which byte of the file it begins."""

    total: int | None
    """How many bytes the file has; None where the server does not say."""

    tag: str
    """What tells this file from a later one at the same address (ETag, or else Last-Modified); "" for nothing."""

    stream: IO[bytes]
    """The bytes, to be read and closed."""


def ask(url: str, offset: int = 0, tag: str = "") -> Answer:
    """Ask for the file from byte `offset` on; `tag`: if it is still the one with this tag, else from its beginning.

    Raises Broken, Refused or WrongRange.
    """
    request = urllib.request.Request(url, headers={"User-Agent": f"cxrkit/{__version__}"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if tag:
            request.add_header("If-Range", tag)
    try:
        # A new opener, so that the proxy is the one that the environment names now.
        response = urllib.request.build_opener().open(request, timeout=SILENCE_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            raise _meaning(error) from None
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(url, error) from None
    try:
        return _answer(response, offset)
    except BaseException:
        response.close()
        raise


def unreachable(url: str, error: Exception) -> Broken | Refused:
    """Return what a failure of the network means."""
    reason = getattr(error, "reason", error)
    host = urlsplit(url).hostname or url
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Refused(
            f"the certificate of {host} cannot be verified ({reason.verify_message})",
            "set SSL_CERT_FILE to the certificates of your network, where a proxy opens what is encrypted",
        )
    what = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return Broken(f"{host} cannot be reached ({what})", host=host)


def _answer(response: http.client.HTTPResponse, offset: int) -> Answer:
    headers = response.headers
    if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise Refused(f"{urlsplit(response.geturl()).hostname} answers with a web page instead of the file")
    tag = headers.get("ETag", "")
    if tag.startswith("W/"):
        tag = ""  # says that two files are alike, not that they have the same bytes
    tag = tag or headers.get("Last-Modified", "")
    if response.status == http.client.PARTIAL_CONTENT:
        start, total = _content_range(headers.get("Content-Range", ""))
        if start != offset:
            raise WrongRange(f"the server sends what begins at byte {start}, asked for was {offset:,}", total)
        return Answer(offset, total, tag, response)
    length = headers.get("Content-Length", "")
    return Answer(0, int(length) if length.isdecimal() else None, tag, response)


def _content_range(text: str) -> tuple[int | None, int | None]:
    """Return (first byte, size of the file) of a Content-Range, None for what it does not say."""
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None:
        return None, None
    return int(match[1]) if match[1] else None, int(match[2]) if match[2] != "*" else None


def _meaning(error: urllib.error.HTTPError) -> Exception:
    """Return what a status of 300 and more means."""
    said = f"{urlsplit(error.url or '').hostname} answers {error.code} {error.reason}".rstrip()
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        return WrongRange(said, _content_range(error.headers.get("Content-Range", ""))[1])
    if error.code in _PASSING:
        wait = error.headers.get("Retry-After", "")
        return Broken(said, min(float(wait), _LONGEST_WAIT_SECONDS) if wait.isdecimal() else None)
    return Refused(said)
