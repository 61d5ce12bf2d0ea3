"""One file: from the web into its part, as often as it takes, then checked, then under its name."""

from __future__ import annotations

import http.client
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from cxrkit.base.errors import UserError
from cxrkit.base.progress import duration, size_text
from cxrkit.datasets.nih.archives import scan_archive
from cxrkit.download.partial import Advance, Partial
from cxrkit.download.published import RemoteFile
from cxrkit.download.web import Answer, Broken, Refused, WrongRange, ask

_PIECE = 1 << 20  # bytes read at once, at most: what has come is taken, however little


@dataclass(frozen=True)
class Patience:
    """How often a file is tried again."""

    tries: int = 6
    """So many in a row without a byte more end it."""

    pause_seconds: float = 1.0
    """Before the second try; doubled before each one after it."""

    def pause(self, failed: int, asked: float | None) -> float:
        """Return the seconds to wait after `failed` tries in a row; `asked`: what the server asks for.

        A little at random, so that several downloads do not all come back at once.
        """
        if asked is not None and self.pause_seconds:
            return asked
        return self.pause_seconds * 2.0 ** (failed - 1) * random.uniform(0.8, 1.2)


PATIENT = Patience()


class Hosts:
    """Hosts that were spoken of; safe to ask from any thread."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: set[str] = set()
        self._lock = Lock()

    def is_new(self, host: str) -> bool:
        """Return whether nobody has asked for this host yet."""
        with self._lock:
            is_new = host not in self._known
            self._known.add(host)
            return is_new


@dataclass
class Told:
    """Who hears of a download as it goes on. Called from its thread."""

    advance: Advance = lambda count: None
    """Of bytes; negative where a file begins anew."""

    note: Callable[[str], None] = lambda text: None
    """Of what went wrong and is tried again."""

    stop: Event = field(default_factory=Event)
    """Set from outside: to leave off."""

    unreachable: Hosts = field(default_factory=Hosts)
    """Hosts of which it was said that they cannot be reached: all files of a download have one, and say it once."""

    def say_broken(self, file: RemoteFile, broken: Broken, seconds: float, tries: int) -> None:
        """Note that a file is tried again; of a host that nobody reaches, once for all its files and tries."""
        if not broken.host:
            self.note(f"{file.name}: {broken}; tried again in {duration(seconds)}")
            return
        if self.unreachable.is_new(broken.host):
            self.note(f"{broken}; each file is tried {tries} times")


def fetch(file: RemoteFile, folder: Path, told: Told, patience: Patience = PATIENT) -> str:
    """Download `file` into `folder`, or what is missing of it; return what is to be said of it, "" for nothing.

    Nothing is under its name before it is whole and checked. Told to stop, it leaves off where it is. Raises Refused
    where it cannot be had, and UserError where it cannot be written.
    """
    part = Partial(folder, file)
    with closing(part):
        part.load(told.advance, told.stop.is_set)
        again = True
        while not told.stop.is_set():
            if not _is_whole(part, file):
                _arrive(part, file, told, patience)
            if told.stop.is_set():
                break
            wrong = part.digests.differing(file) or _damage(part, file)
            if not wrong:
                part.publish(folder / file.name)
                return part.digests.doubt(file)
            if not again:
                raise Refused(f"what has arrived is not NIH's file: {wrong}")
            again = False
            told.note(f"{file.name}: {wrong}; it is downloaded again")
            _begin(part, "", told)
    return ""


def _is_whole(part: Partial, file: RemoteFile) -> bool:
    return file.size is not None and part.size >= file.size


@dataclass
class _Way:
    """How the rest of a file is asked for."""

    in_pieces: bool = True
    """Whether the server can send a rest alone."""

    by_tag: bool = True
    """Whether only of a file with the same tag. Some servers change it with every answer: then the checksum decides."""


def _arrive(part: Partial, file: RemoteFile, told: Told, patience: Patience) -> None:
    """Ask until all bytes are there, or told to stop."""
    failed, way = 0, _Way()
    while not told.stop.is_set():
        before = part.size
        try:
            if _ask_on(part, file, told, way):
                return
            continue
        except WrongRange as error:
            if part.size and error.total == part.size:  # 416: there are no more bytes than these
                return
            # It has other bytes than we, or cannot send a piece: the file as a whole, then.
            broken, way.in_pieces = Broken(f"{error}; it begins anew"), False
            _begin(part, "", told)
        except Broken as error:
            broken = error
        failed = 1 if part.size > before else failed + 1
        if failed >= patience.tries:
            raise Refused(
                f"{broken}, {failed} times in a row",
                "run the same command again later: it goes on where it is; behind a proxy, set HTTPS_PROXY",
            )
        seconds = patience.pause(failed, broken.wait_seconds)
        told.say_broken(file, broken, seconds, patience.tries)
        told.stop.wait(seconds)


def _ask_on(part: Partial, file: RemoteFile, told: Told, way: _Way) -> bool:
    """Ask for what is missing and write it; return whether all is there."""
    answer = ask(file.url, part.size if way.in_pieces else 0, part.tag if way.by_tag else "")
    with closing(answer.stream):
        if answer.total is not None and file.size is not None and answer.total != file.size:
            raise Refused(f"the server's file has {answer.total:,} bytes, NIH's had {file.size:,}: another file")
        changed = bool(part.size and part.tag and answer.tag and answer.tag != part.tag)
        if answer.start:
            if changed and not file.has_checksum:
                raise WrongRange("the server's file is another one by now", None)
            part.go_on(answer.tag)
        elif changed and way.by_tag and way.in_pieces and file.has_checksum:
            way.by_tag = False
            return False
        else:
            if part.size:
                why = "the server's file is another one by now" if changed else "the server sends no rest alone"
                told.note(f"{file.name}: {why}; it begins anew")
            _begin(part, answer.tag, told)
        return _take(answer, part, file, told)


def _begin(part: Partial, tag: str, told: Told) -> None:
    told.advance(-part.size)
    part.begin(tag)


def _take(answer: Answer, part: Partial, file: RemoteFile, told: Told) -> bool:
    """Write what the server sends, to its end; return whether that was the end of the file, and not a stop."""
    total = answer.total if answer.total is not None else file.size
    while total is None or part.size < total:
        if told.stop.is_set():
            return False
        try:
            # read1: not waiting until a whole piece has come
            data = answer.stream.read1(_PIECE if total is None else min(_PIECE, total - part.size))  # type: ignore[attr-defined]
        except (OSError, http.client.HTTPException) as error:
            raise _cut(part, total, error) from None
        if told.stop.is_set():  # and the folder, perhaps, somebody else's by now
            return False
        if not data and total is None:
            return True
        if not data:
            raise _cut(part, total)
        if part.size < len(file.start) and not (bytes(data) + file.start)[: len(file.start)] == file.start:
            raise Refused(f"what the server sends is no {file.name}: it begins with {data[:40]!r}")
        part.append(data)
        told.advance(len(data))
    return True


def _cut(part: Partial, total: int | None, error: Exception | None = None) -> Broken:
    of = "" if total is None else f" of {size_text(total)}"
    text = f"broke off after {size_text(part.size)}{of}"
    if error is None:
        return Broken(text)
    return Broken(f"{text} ({getattr(error, 'strerror', None) or str(error) or type(error).__name__})")


def _damage(part: Partial, file: RemoteFile) -> str:
    """Return how an archive is damaged of which no checksum is known; "" for any other file."""
    if file.has_checksum or file.archive is None:
        return ""
    try:
        scan_archive(part.path)
    except UserError as error:
        return error.what
    return ""
