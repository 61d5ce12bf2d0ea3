"""`cxrkit download`: what is missing of NIH's files in a folder, several at once; what is there is kept.

One claim on the folder covers it all. Each file has a thread and is checked by itself; one that cannot be had keeps no
other from coming. Ctrl-C, or the end of the process in any way, leaves parts that the next run continues.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from cxrkit.base.errors import DiskFull, UserError
from cxrkit.base.files import claimed, output_error
from cxrkit.base.progress import BYTES, Bar, duration, progress_bar, size_text
from cxrkit.base.words import count
from cxrkit.datasets.nih.folders import look_into
from cxrkit.datasets.nih.text import PAGE
from cxrkit.download import published, there
from cxrkit.download.fetching import PATIENT, Hosts, Patience, Told, fetch
from cxrkit.download.partial import Partial, digests_of
from cxrkit.download.published import RemoteFile
from cxrkit.download.web import Refused

LOCK = ".cxrkit-download.lock"
_LOOK_EVERY_SECONDS = 0.2
_PATIENCE_AT_THE_END_SECONDS = 2.0  # for threads that wait for a server which says nothing
_BY_HAND = f"get it from {PAGE} with a browser and put it into this folder"


@dataclass(frozen=True)
class DownloadRequest:
    """What the command line asks for."""

    to: Path
    """The raw folder."""

    only: str | None = None
    """Names of archives, with commas; None: all twelve."""

    tables: bool = False
    """The tables alone."""

    mirror: str | None = None
    """Address of a copy that has the files under their own names; None: NIH's own."""

    at_once: int = 4
    """So many files at a time."""


@dataclass
class DownloadSummary:
    """What came of it."""

    folder: Path
    """The raw folder."""

    names: list[str]
    """The files asked for."""

    kept: int = 0
    """Files that were there."""

    fetched: int = 0
    """Files that were downloaded, or the rest of them."""

    bytes: int = 0
    """Bytes that came over the network or were read again."""

    seconds: float = 0.0
    """Wall clock."""

    failures: dict[str, Refused] = field(default_factory=dict)
    """Name -> why it could not be had."""

    def text(self) -> str:
        """Return the closing lines for the terminal."""
        made = f"{self.fetched:,} downloaded in {duration(self.seconds)}" if self.fetched else "nothing to download"
        images = {file.name for file in published.archives()}
        held = images.intersection(self.names)
        flags = "" if held == images else " --allow-missing" if held else " --tables-only"
        return (
            f"{count(len(self.names), 'file')} in {self.folder}: {self.kept:,} there already, {made}\n"
            f"Next: cxrkit prepare --raw {self.folder}{flags}"
        )

    def raise_if_failed(self) -> None:
        """Raise a UserError that names each file that could not be had."""
        if not self.failures:
            return
        lines = [f"{name}: {failure}" for name, failure in sorted(self.failures.items())]
        remedies = dict.fromkeys(failure.remedy for failure in self.failures.values() if failure.remedy)
        whole = len(self.names) - len(self.failures)
        raise UserError(
            "\n  ".join([f"{self.folder}: {whole:,} of {len(self.names):,} files are there", *lines]),
            remedy="; or ".join([*remedies, _BY_HAND]),
        )


def download(
    request: DownloadRequest, *, console: Console | None = None, patience: Patience = PATIENT
) -> DownloadSummary:
    """Download what is missing in `request.to`; return what was done, failures of single files included.

    Raises UserError for a wrong request, a folder that another download has, a disk that is too small or full.
    """
    if request.at_once < 1:
        raise UserError(f"--at-once {request.at_once}: there must be at least one", remedy="choose 1 or more")
    files = published.chosen(request.only, request.tables)
    if request.mirror is not None:
        files = published.from_mirror(files, request.mirror)
    started = time.monotonic()
    busy = f"{request.to}: another cxrkit download is writing here"
    with claimed(request.to / LOCK, busy, "wait for it, or choose another --to folder"):
        summary = DownloadSummary(request.to, [file.name for file in files])
        work = _Work(request.to, summary, patience)
        try:
            work.look(files)
            work.refuse_small_disk()
        except OSError as error:
            raise output_error(request.to, error) from error
        work.run(request.at_once, console)
    summary.seconds = time.monotonic() - started
    return summary


@dataclass
class _Work:
    """What is to do in one folder."""

    folder: Path
    summary: DownloadSummary
    patience: Patience
    to_check: list[tuple[Path, RemoteFile]] = field(default_factory=list)
    to_fetch: list[RemoteFile] = field(default_factory=list)
    checked: there.Checked = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)
    hosts: Hosts = field(default_factory=Hosts)
    fatal: list[BaseException] = field(default_factory=list)

    def look(self, files: list[RemoteFile]) -> None:
        """Sort the files into what is kept, what is to be checked, and what is to be downloaded. Raises OSError."""
        self.checked = there.Checked.of(self.folder)
        contents = look_into(self.folder)
        unpacked = there.unpacked(files, contents)
        for file in files:
            path = there.find(self.folder, file, contents)
            if path is None and file.name not in unpacked:
                self.to_fetch.append(file)
            elif path is None or self.checked.knows(path, file):
                self.summary.kept += 1
            else:
                self.to_check.append((path, file))

    def refuse_small_disk(self) -> None:
        """Raise a UserError where what is missing does not fit. Raises OSError."""
        there_already = sum(_size(Partial(self.folder, file).path) for file in self.to_fetch)
        needed = sum(file.size or 0 for file in self.to_fetch) - there_already
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"{self.folder}: {size_text(needed)} are missing, and the disk has {size_text(free)} left",
                remedy="free some space, choose another --to folder, or fewer archives: --only images_001,...",
            )

    def run(self, at_once: int, console: Console | None) -> None:
        """Check and download, `at_once` at a time. Raises UserError where the disk does not play along."""
        total = sum(_size(path) for path, _ in self.to_check) + sum(file.size or 0 for file in self.to_fetch)
        stop = threading.Event()
        with progress_bar("download", total, console=console, unit=BYTES) as bar:
            jobs: deque[Callable[[], None]] = deque()
            jobs += [lambda path=path, file=file: self._check(path, file, bar, stop) for path, file in self.to_check]  # type: ignore[misc]
            jobs += [lambda file=file: self._fetch(file, bar, stop) for file in self.to_fetch]  # type: ignore[misc]
            count = min(at_once, len(jobs))
            # Daemons: a server that says nothing must not keep the process from its end.
            threads = [threading.Thread(target=self._take, args=(jobs, stop), daemon=True) for _ in range(count)]
            try:
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads) and not self.fatal:
                    for thread in threads:
                        thread.join(_LOOK_EVERY_SECONDS / count)
            finally:
                stop.set()
                deadline = time.monotonic() + _PATIENCE_AT_THE_END_SECONDS
                for thread in threads:
                    thread.join(max(0.0, deadline - time.monotonic()))
        if self.fatal:
            raise self.fatal[0]

    def _take(self, jobs: deque[Callable[[], None]], stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                jobs.popleft()()
        except IndexError:
            return
        except BaseException as error:  # for the main thread to raise
            self.fatal.append(error)

    def _fetch(self, file: RemoteFile, bar: Bar, stop: threading.Event) -> None:
        try:
            doubt = fetch(file, self.folder, Told(bar.advance, bar.note, stop, self.hosts), self.patience)
        except Refused as failure:
            self._fail(file, failure)
            return
        except DiskFull as error:
            raise UserError(
                error.what.replace("the file was not written", "what has arrived is kept"), remedy=error.remedy
            ) from None
        path = self.folder / file.name
        if stop.is_set() and not path.exists():
            return
        with self.lock:
            self.checked.add(path, file)
            self.summary.fetched += 1
        how = "checked" if file.has_checksum else "no checksum is known of it"
        bar.note(f"{file.name}: {size_text(_size(path))}, {doubt or how}")

    def _check(self, path: Path, file: RemoteFile, bar: Bar, stop: threading.Event) -> None:
        try:
            digests = digests_of(path, bar.advance, stop.is_set)
        except OSError as error:
            self._fail(
                file, Refused(f"{path.name} is there, but cannot be read ({error.strerror})", "make it readable")
            )
            return
        if stop.is_set():
            return
        wrong = digests.differing(file)
        if wrong and file.archive is not None:
            remedy = f"delete {path.name} or move it away, and run the same command again"
            if file.size is not None and digests.size < file.size:
                remedy += f"; the beginning of NIH's own is continued when it is renamed to {file.name}.part"
            self._fail(file, Refused(f"{path.name} is there, but {wrong}", remedy))
            return
        with self.lock:
            self.summary.kept += 1
            if not wrong:
                self.checked.add(path, file)
        if wrong:
            # Tables are often saved again, by a spreadsheet or a package; what they say is another question.
            bar.note(
                f"{path.name}: kept as it is there, but {wrong}; "
                f"`cxrkit doctor --raw {self.folder}` says whether its content is NIH's"
            )

    def _fail(self, file: RemoteFile, failure: Refused) -> None:
        with self.lock:
            self.summary.failures[file.name] = failure


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
