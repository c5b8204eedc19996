"""The loop of a site: reads what is new, does what follows, sends what it has to say. Outbound only.

Each part is idempotent and durable, so the process may die at any line: the next pass goes on from what is
stored. A hospital's loop has two threads, one that waits for news and one that acts and sends; the
coordinator's looks at deadlines. Only one loop runs per site.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import logging
import threading
import time
from pathlib import Path
from typing import IO, Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import DatabaseError, close_old_connections, transaction
from django.utils import timezone

from diagnosis.errors import ClinicError
from federation import storage
from federation.errors import InvalidMessage, NotHere, Refused, Unreachable
from federation.identity import identity_now, public_hex
from federation.models import Membership, Outgoing, Peer, SecureSum
from federation.services import checking, coordination, newcomers, own_rounds, rotation, speaking, sums
from federation.services.following import links_follow
from federation.services.own import membership_found, own_peer
from federation.services.tidying import files_tidy

log = logging.getLogger(__name__)
ACT_SECONDS = 0.5
REST_SECONDS = 5.0  # after the coordinator could not be reached
STOP_SECONDS = 20.0
LISTENER_SECONDS = 1.0
TIDY_SECONDS = 3600.0


class Line(Protocol):
    """What the loop needs of `transport.Coordinator`."""

    def post_entry(self, data: bytes, invitation: str = "") -> dict[str, Any]: ...
    def links(self, after: int, wait: float = 0) -> dict[str, Any]: ...
    def blob_put(self, path: Path, sha256: str) -> None: ...
    def blob_get(self, sha256: str, size: int, target: Path) -> Path: ...
    def blob_state(self, sha256: str) -> dict[str, Any]: ...


def line_open(membership: Membership, key: Ed25519PrivateKey | None = None) -> Line:
    """A connection to the coordinator, signed by this site's identity, or by another key of its own."""
    from federation.clock import Clock
    from federation.transport import Coordinator

    return Coordinator(
        membership.coordinator_address,
        key or identity_now(),
        membership.name,
        Clock(),
        membership.coordinator_key,
    )


# --- the parts of one pass ---


def pull(line: Line, *, wait: float = 0.0) -> int:
    """Read new links; returns how many. Nothing is read while this site is in alarm or not admitted yet."""
    membership = membership_found()
    if membership is None or membership.alarm or own_unknown(membership):
        return 0
    answer = line.links(membership.seq, wait)
    links, head = answer.get("links"), answer.get("head")
    if not isinstance(links, list) or not isinstance(head, dict):
        raise InvalidMessage("The coordinator's answer is not in the protocol's form.")
    _health_note(answer.get("health"))
    return links_follow(links, head)


def own_unknown(membership: Membership) -> bool:
    """Before its Join is accepted a site may not read."""
    join = Outgoing.objects.filter(kind="Join").order_by("-pk").first()
    return own_peer() is None and (join is None or not join.sent)


def _health_note(found: Any) -> None:
    """When the coordinator last heard of each site: for the pages, nothing depends on it."""
    for name, moment in found.items() if isinstance(found, dict) else ():
        try:
            seen = dt.datetime.fromisoformat(moment)
        except (TypeError, ValueError):
            continue
        if timezone.is_aware(seen):
            Peer.objects.filter(name=str(name)).update(last_seen_at=seen)


def act(line: Line) -> None:
    """Everything that follows from what was read."""
    membership = membership_found()
    if membership is None or membership.alarm or membership.left:
        return
    for own in checking.unchecked():  # first: the next sum builds on them
        for sha256, size in checking.files_needed(own):
            _fetch(line, sha256, size)
        if checking.sum_recheck(own) == "differs":
            return
    sums.sums_step()
    own_rounds.rounds_step()
    _adopt(line)


def _adopt(line: Line) -> None:
    model = own_rounds.adoption_due()
    if model is not None:
        for sha256 in own_rounds.model_files(model):
            fetch(line, sha256)
        own_rounds.adoption_request(model)
    offered = newcomers.installation_due()
    if offered is not None:
        for sha256 in own_rounds.model_files(offered) + newcomers.sums_behind(offered):
            fetch(line, sha256)
        newcomers.installation_request(offered)
    published = own_rounds.centroids_due()
    behind = newcomers.sums_behind(published) if published is not None else []
    if published is not None and behind:
        for sha256 in [SecureSum.objects.get(name=published.centroids).result, *behind]:
            fetch(line, sha256)
        own_rounds.centroids_keep(published)


def fetch(line: Line, sha256: str) -> None:
    """Have a file of the coordinator's here, whatever its size."""
    _fetch(line, sha256, None)


def _fetch(line: Line, sha256: str, size: int | None) -> None:
    try:
        storage.blob_path(sha256)
    except NotHere:
        known = line.blob_state(sha256) if size is None else {"size": size}
        folder = Path(settings.GESTALTWEB_HOME) / "federation" / "incoming"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        came = line.blob_get(sha256, int(known["size"]), folder / sha256)
        storage.blob_add(came)
        came.unlink(missing_ok=True)


def push(line: Line) -> None:
    """Send what waits, oldest first, each after its files. What is refused is noted and not sent again."""
    membership = membership_found()
    if membership is None or membership.alarm:
        return
    for said in speaking.waiting():
        try:
            for sha256 in said.blobs:
                line.blob_put(storage.blob_path(sha256), sha256)
            invitation = membership.invitation if said.kind == "Join" else ""
            answer = line.post_entry(said.text.encode(), invitation)
        except Refused as refused:
            if refused.retry and refused.status != 409:
                raise
            _refused(said, str(refused))
            continue
        _accepted(said, answer)


def _accepted(said: Outgoing, answer: dict[str, Any]) -> None:
    seq = answer.get("seq")
    with transaction.atomic():
        Outgoing.objects.filter(pk=said.pk).update(sent=True, seq=seq if isinstance(seq, int) else None)
        if said.kind == "Join":
            Membership.objects.filter(pk=1).update(invitation="")


def _refused(said: Outgoing, sentence: str) -> None:
    log.warning("the coordinator refused %s: %s", said.kind, sentence)
    Outgoing.objects.filter(pk=said.pk).update(sent=True, refusal=sentence[:300])


def step(line: Line) -> int:
    """One pass: read, act, send, read what came of it."""
    count = pull(line)
    act(line)
    push(line)
    return count + pull(line)


# --- the loop ---


class Loop:
    """Runs with the server (embedded) or as `manage.py agent`."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._news = threading.Event()
        self._read = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock: IO[str] | None = None
        self._lines = threading.local()
        self._tidy_at = 0.0

    def start(self) -> None:
        """Begin; does nothing while another process of this site runs the loop."""
        if self._threads or not self._alone():
            return
        self._stop.clear()
        coordinator = settings.SITE_ROLE == "coordinator"
        parts = [self._tick] if coordinator else [self._listen, self._work]
        self._threads = [
            threading.Thread(target=self._run, args=(part,), name=part.__name__, daemon=True)
            for part in parts
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads. Who waits for news holds nothing and ends with the process."""
        self._stop.set()
        self._news.set()
        coordination.news.set()
        for thread in self._threads:
            thread.join(LISTENER_SECONDS if thread.name == "_listen" else STOP_SECONDS)
        self._threads = []
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def run_forever(self) -> None:
        """In the foreground until stopped."""
        self.start()
        if not self._threads:
            raise RuntimeError("Another process of this site runs the loop already.")
        self._stop.wait()

    def _alone(self) -> bool:
        path = Path(settings.GESTALTWEB_HOME) / "agent.lock"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = path.open("w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            return False
        return True

    def _run(self, part: Any) -> None:
        """Call one part over and over; whatever fails is logged and tried again a little later."""
        while not self._stop.is_set():
            close_old_connections()
            try:
                rest = part()
            except Unreachable as error:
                log.info("the coordinator cannot be reached: %s", error)
                rest = REST_SECONDS
            except (ClinicError, DatabaseError) as error:
                log.warning("the loop goes on after: %s", error)
                rest = REST_SECONDS
            except Exception:  # a fault of ours must not end the loop
                log.exception("the loop goes on after a fault")
                rest = REST_SECONDS
            close_old_connections()
            if rest:
                self._stop.wait(rest)

    def _connection(self) -> Line | None:
        membership = membership_found()
        if membership is None or not membership.coordinator_address:
            return None
        key = public_hex(identity_now())  # after a rotation the next request is signed by the new key
        if getattr(self._lines, "key", None) != key:
            self._lines.key, self._lines.line = key, line_open(membership)
        line: Line = self._lines.line
        return line

    def _listen(self) -> float:
        line = self._connection()
        if line is None:
            return 1.0
        try:
            count = pull(line, wait=settings.FEDERATION_POLL_SECONDS if self._read.is_set() else 0)
        except Refused as refused:
            if refused.status != 403 or not self._promoted():
                raise
            return 0.0
        (self._news if count else self._read).set()
        return 0.0 if count else 0.5

    def _promoted(self) -> bool:
        """The old key counts no longer: a new one was accepted and the answer to it was lost. Read by it."""
        membership, key = membership_found(), rotation.key_waiting()
        if membership is None or key is None:
            return False
        return pull(line_open(membership, key)) > 0

    def _work(self) -> float:
        line = self._connection()
        if line is None:
            return 1.0
        if not self._read.wait(1.0):  # a restored site must hear what it said before it acts on what it knows
            return 0.0
        self._news.clear()
        self._tidy()
        try:
            act(line)
        finally:  # what is said already is sent, whatever does not work here
            push(line)
        self._news.wait(ACT_SECONDS)
        return 0.0

    def _tidy(self) -> None:
        """Once an hour: remove files that nothing needs any more."""
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_SECONDS
            files_tidy()

    def _tick(self) -> float:
        if membership_found() is None:
            return 1.0
        self._tidy()
        coordination.news.clear()
        coordination.tick()
        coordination.news.wait(settings.FEDERATION_TICK_SECONDS)
        return 0.0


loop = Loop()
