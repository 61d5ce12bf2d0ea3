"""A web server on this machine that does what servers do to downloads: break off, lie, move, change, refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """What lies at one address, and how the server treats those who ask. Each fault strikes once per entry."""

    data: bytes
    tag: str = '"v1"'
    kind: str = "application/octet-stream"
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)  # said first, one a question
    cut_after: list[int] = field(default_factory=list)  # bytes sent, one a question, before the connection is dropped
    told_length: int | None = None  # what Content-Length says instead
    shift: int = 0  # a range begins so many bytes later than was asked for
    moved_to: str = ""
    retry_after: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)  # the headers of each question
    then: Callable[[Page], None] | None = None  # called after the first answer: the file changes
    gate: threading.Event | None = None  # waited for before the second half is sent


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page: Page | None = self.server.pages.get(self.path.lstrip("/"))  # type: ignore[attr-defined]
        if page is None:
            self.send_error(404)
            return
        page.asked.append({name.lower(): value for name, value in self.headers.items()})
        if page.moved_to:
            self._head(302, {"Location": page.moved_to, "Content-Length": "0"})
        elif page.statuses:
            extra = {"Retry-After": page.retry_after} if page.retry_after else {}
            self._head(page.statuses.pop(0), {"Content-Length": "0"} | extra)
        else:
            self._send(page)
            if page.then is not None:
                page.then, then = None, page.then
                then(page)

    def _send(self, page: Page) -> None:
        data, headers = page.data, {"Content-Type": page.kind}
        if page.tag:
            headers["ETag"] = page.tag
        wanted, if_range = self.headers.get("Range", ""), self.headers.get("If-Range", page.tag)
        if wanted and page.ranges and if_range == page.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self._head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
                return
            start += page.shift
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            status, body = 206, data[start:]
        else:
            status, body = 200, data
        length = len(body) if page.told_length is None else page.told_length
        self._head(status, headers | {"Content-Length": str(length)})
        cut = page.cut_after.pop(0) if page.cut_after else len(body)
        if page.gate is not None:
            self.wfile.write(body[: cut // 2])
            self.wfile.flush()
            page.gate.wait(10)
            body, cut = body[cut // 2 : cut], cut - cut // 2
        self.wfile.write(body[:cut])
        self.close_connection = True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # whoever asked has gone


@contextmanager
def serving(pages: dict[str, Page]) -> Iterator[str]:
    """Serve the pages by their names; yields the address of the server."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.pages = pages  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
