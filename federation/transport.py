"""The only module that opens a socket to another site: signed requests to the federation's coordinator."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.utils import timezone

from federation.clock import Clock, time_verify
from federation.errors import FederationError, InvalidMessage, Refused, Unreachable
from federation.signing import INVITATION, Message, request_sign
from federation.storage import CHUNK_BYTES, room, sync_folder, write_all

ROOT: Final = "/federation/v1"
ANSWER_BYTES: Final = 4 * 1024 * 1024  # of JSON; the coordinator sends about 2 MiB of links at most
ERROR_BYTES: Final = 64 * 1024
SECONDS: Final = 120.0  # for a whole answer, beyond the wait that was asked for
_TIMEOUT: Final = httpx2.Timeout(connect=10, read=30, write=60, pool=10)
_CLOCK_REASONS: Final = frozenset({"expired", "early"})
_TOO_SLOW: Final = "The coordinator does not take the file on. It is sent again later."
_BUSY: Final = frozenset({429, 500, 502, 503, 504})


def require_address(address: str) -> str:
    """scheme://host[:port] without anything behind it. Refuses plain http to another machine."""
    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        parts, port, host = urlsplit(""), None, ""
    plain = address.rstrip("/") == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc
    if not host or port == 0 or not plain or parts.scheme not in ("http", "https"):
        raise InvalidMessage("The coordinator's address must read like https://coordinator.example.")
    if parts.scheme == "http" and not _is_loopback(host):
        raise InvalidMessage("The coordinator's address must begin with https://, as it is another machine.")
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: httpx2.Headers
    body: bytes


@dataclass
class Coordinator:
    """A connection to the coordinator. Errors are Unreachable (try later) and Refused (it said no).

    name: this site's own; coordinator_key: 64 hex, without which the own clock cannot be corrected.
    """

    address: str
    identity: Ed25519PrivateKey = field(repr=False)
    name: str
    clock: Clock = field(repr=False)
    coordinator_key: str = ""

    def __post_init__(self) -> None:
        self.address = require_address(self.address)
        # Proxies of the environment are for the way out of a hospital, never for this machine itself.
        self._client = httpx2.Client(
            timeout=_TIMEOUT, follow_redirects=False, trust_env=self.address.startswith("https://")
        )

    def close(self) -> None:
        """Close the kept connections."""
        self._client.close()

    # --- what a site says to the coordinator ---------------------------------------------------------------

    def post_entry(self, data: bytes, invitation: str = "") -> dict[str, Any]:
        """Send an entry's bytes: {"seq", "head"}. `invitation`: the token, for a Join entry only."""
        extra = {INVITATION: invitation} if invitation else {}
        return self._json("POST", "/entries", body=data, extra=extra)

    def links(self, after: int, wait: float = 0) -> dict[str, Any]:
        """{"links", "head", "health"} after this number; waits up to `wait` seconds for the first."""
        seconds = max(0, int(wait))
        return self._json("GET", "/links", query=f"after={after}&wait={seconds}", wait=seconds)

    def blob_state(self, sha256: str) -> dict[str, Any]:
        """{"size", "received", "complete"} of a file at the coordinator."""
        return self._json("GET", f"/blobs/{sha256}")

    def blob_put(self, path: Path, sha256: str) -> None:
        """Send a file, from where the coordinator has it. Returns once its hash was checked there."""
        size, state = path.stat().st_size, self.blob_state(sha256)
        with path.open("rb") as stream:
            for _ in range(2 * (size // CHUNK_BYTES) + 16):
                if state.get("complete") is True:
                    return
                offset = _whole(state, "received", maximum=size)
                stream.seek(offset)
                state = self._chunk_put(sha256, offset, size, stream.read(CHUNK_BYTES))
        raise Unreachable(_TOO_SLOW)

    def _chunk_put(self, sha256: str, offset: int, size: int, data: bytes) -> dict[str, Any]:
        """The state after this chunk, or where to go on when it was not the next one."""
        try:
            state = self._json("PUT", f"/blobs/{sha256}/{offset}", query=f"size={size}", body=data)
        except Refused as refusal:
            # Another request of this site was faster, or the coordinator has lost the end of the file.
            if refusal.status != 409 or refusal.details.get("received", offset) == offset:
                raise
            return refusal.details
        if state.get("complete") is not True and _whole(state, "received", maximum=size) <= offset:
            raise Unreachable(_TOO_SLOW)
        return state

    def blob_get(self, sha256: str, size: int, target: Path) -> Path:
        """Fetch a file of exactly `size` bytes to `target`, going on where an earlier try ended.

        InvalidMessage, and nothing at `target`, when what came does not have this hash; NoRoom when this
        site's disk is full.
        """
        partial = target.with_name(f".{target.name}.part")
        with room():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if partial.exists() and partial.stat().st_size > size:
                partial.unlink()
            with os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as stream:
                while (offset := stream.seek(0, os.SEEK_END)) < size:
                    write_all(stream, self._chunk_get(sha256, offset, size - offset))
        return _settle(partial, sha256, target)

    def _chunk_get(self, sha256: str, offset: int, left: int) -> bytes:
        wanted = min(CHUNK_BYTES, left)
        data = self._ask("GET", f"/blobs/{sha256}/{offset}", limit=wanted).body
        if len(data) != wanted:
            raise Refused(502, "The coordinator has another size of this file than it announced.")
        return data

    # --- time ----------------------------------------------------------------------------------------------

    def time(self) -> dict[str, Any]:
        """The coordinator's time {"at": ms since 1970, "nonce", "signature"}, signed for this question."""
        nonce = secrets.token_hex(16)
        answer = self._json("GET", "/time", query=f"nonce={nonce}", signed=False)
        at = _whole(answer, "at", maximum=1 << 53)
        time_verify(self.coordinator_key, nonce=nonce, at=at, signature=str(answer.get("signature", "")))
        return answer

    def synchronise(self) -> int:
        """Correct this site's clock by the coordinator's; returns the offset in ms. ClockWrong beyond ten
        minutes."""
        begun = time.monotonic()
        at = int(self.time()["at"])
        local, half = timezone.now(), round((time.monotonic() - begun) * 500)
        return self.clock.correct(at=at + half, local=local, uncertain_ms=half + 1)  # whole ms

    # --- one request ---------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return _object(self._ask(method, path, **options).body)

    def _ask(self, method: str, path: str, **options: Any) -> _Answer:
        """The answer, or an error. A signature refused for its time is made again by a corrected clock."""
        answer = self._send(method, path, **options)
        error = _error(answer)
        if isinstance(error, Refused) and error.reason in _CLOCK_REASONS and self.coordinator_key:
            self.synchronise()
            answer = self._send(method, path, **options)
            error = _error(answer)
        if error is not None:
            raise error
        return answer

    def _send(
        self, method: str, path: str, *, query: str = "", body: bytes = b"", signed: bool = True,
        extra: dict[str, str] | None = None, wait: int = 0, limit: int = ANSWER_BYTES,
    ) -> _Answer:  # fmt: skip
        url = f"{self.address}{ROOT}{path}" + (f"?{query}" if query else "")
        message = Message(method, url, dict(extra or {}))
        if signed:
            request_sign(message, body=body, key=self.identity, now=self.clock.now())
        headers = message.headers | {
            "Accept-Encoding": "identity",
            "Content-Type": "application/octet-stream",
        }
        timeout = httpx2.Timeout(connect=10, read=30 + wait, write=60, pool=10)
        request = self._client.build_request(method, url, headers=headers, content=body, timeout=timeout)
        return self._receive(request, limit, time.monotonic() + SECONDS + wait)

    def _receive(self, request: httpx2.Request, limit: int, until: float) -> _Answer:
        try:
            response = self._client.send(request, stream=True, auth=None)
            try:
                cap = limit if response.status_code == 200 else ERROR_BYTES
                body = b"".join(_bounded(response, cap, until))
            finally:
                response.close()
                self._client.cookies.clear()
        except httpx2.HTTPError:
            # The library's text may name a proxy with its password; only the kind of trouble is told.
            raise Unreachable("The coordinator cannot be reached. It is tried again by itself.") from None
        return _Answer(response.status_code, response.headers, body)


# --- answers are a stranger's bytes ------------------------------------------------------------------------


def _bounded(response: httpx2.Response, limit: int, until: float) -> Iterator[bytes]:
    """The raw body, piece by piece, as long as it keeps within bytes and time."""
    seen = 0
    for piece in response.iter_raw():
        seen += len(piece)
        if seen > limit:
            raise Refused(502, "The coordinator's answer is larger than the protocol allows.")
        if time.monotonic() > until:
            raise Unreachable("The coordinator answers too slowly. It is tried again by itself.")
        yield piece


def _error(answer: _Answer) -> FederationError | None:
    if answer.status == 200 and answer.headers.get("content-encoding", "identity") == "identity":
        return None
    if answer.status == 200:
        return Refused(502, "The coordinator's answer is compressed, which was not asked for.")
    if 300 <= answer.status < 400:
        return Refused(answer.status, "The coordinator's address leads elsewhere. Enter its new address.")
    found = _said(answer.body)
    if answer.status in _BUSY:
        return Unreachable("The coordinator is busy or being restarted. It is tried again by itself.")
    sentence = _plain(found.get("error")) or f"The coordinator refused this (status {answer.status})."
    details = {"received": found["received"]} if type(found.get("received")) is int else {}
    return Refused(answer.status, sentence, reason=_plain(found.get("reason")) or "refused", **details)


def _said(body: bytes) -> dict[str, Any]:
    try:
        return _object(body)
    except InvalidMessage:
        return {}


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidMessage("The coordinator's answer is not in the protocol's form.")
    return found


def _plain(text: object) -> str:
    """A stranger's sentence, short and printable."""
    return "".join(letter for letter in text if letter.isprintable())[:300] if isinstance(text, str) else ""


def _whole(found: dict[str, Any], name: str, *, maximum: int) -> int:
    number = found.get(name)
    if type(number) is not int or not 0 <= number <= maximum:
        raise InvalidMessage("The coordinator's answer is not in the protocol's form.")
    return number


def _settle(partial: Path, sha256: str, target: Path) -> Path:
    with partial.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        partial.unlink()
        raise InvalidMessage("A file from the coordinator does not have its hash; it was discarded.")
    partial.replace(target)
    sync_folder(target.parent)
    return target
