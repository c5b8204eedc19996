"""The coordinator's side of secure sums: checks messages as they come, and adds up what may be opened.

`secagg.server.ServerSession` is rebuilt from the stored messages, which were checked when they came.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.conf import settings

from federation import storage
from federation.errors import Conflict, InvalidMessage
from federation.models import SecureSum, TranscriptLink
from federation.secagg import rules, wire
from federation.secagg.errors import SecAggError
from federation.secagg.masks import Words, little_endian
from federation.secagg.server import ServerSession, open_sum
from federation.services.advancing import GRACE_MS
from federation.services.contexts import context_of, roster_of
from federation.services.own import membership_now
from federation.services.projection_rounds import live_sites
from federation.services.projection_sums import sum_named
from federation.transcript import Entry

CHUNK_WORDS: Final = 1 << 20
MESSAGES: Final = frozenset({"Advert", "Shares", "Masked", "Signed", "Unmask"})


def now_ms() -> int:
    """The coordinator's time, whole milliseconds since 1970."""
    return time.time_ns() // 1_000_000


# --- messages ---


def message_check(entry: Entry) -> None:
    """Hold a message of secure aggregation against all earlier ones. InvalidMessage says what is wrong."""
    total = sum_named(str(entry.body.get("sum", "")))
    texts = entry.body.get("messages") if entry.kind == "Shares" else [entry.body.get("message")]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidMessage("A message of secure aggregation is missing.")
    session = server_session(total)
    try:
        for text in texts:
            message_take(session, wire.decode(text.encode()))
    except SecAggError as error:
        raise InvalidMessage(str(error)) from None
    if entry.kind == "Masked":
        _require_bytes(session.commitments[entry.author], total)


def message_take(session: ServerSession, message: wire.Signed) -> None:
    """Give a message to the session's entry for its kind, which verifies it. SecAggError for a wrong one."""
    if isinstance(message, wire.KeyAdvert):
        session.add_advert(message)
    elif isinstance(message, wire.SealedShare):
        session.add_share(message)
    elif isinstance(message, wire.MaskedCommitment):
        session.add_commitment(message)
    elif isinstance(message, wire.SurvivorSet):
        session.add_signature(message)
    elif isinstance(message, wire.UnmaskAnswer):
        session.add_answer(message)


def _require_bytes(commitment: wire.MaskedCommitment, total: SecureSum) -> None:
    """The masked bytes must be here, whole, before their commitment counts."""
    state = storage.blob_state(commitment.sha256.hex())
    if not state["complete"] or state["size"] * 8 != total.words * total.bits:
        raise Conflict("The masked input is not here yet, or has another length. Send it first.")


def server_session(total: SecureSum) -> ServerSession:
    """The coordinator's session from the stored messages, without verifying their signatures again."""
    session = ServerSession(roster_of(total), context_of(total, membership_now()))
    kept: dict[str, list[wire.Signed]] = {"advert": [], "share": [], "masked": [], "signed": [], "unmask": []}
    for row in total.messages.all():
        kept[row.kind].append(wire.decode(row.text.encode()))
    keyed = set(total.keyed or total.sites)
    session.adverts = {m.site: m for m in sorted(kept["advert"], key=_site) if m.site in keyed}  # type: ignore[misc]
    session.keys_closed = bool(total.keyed)
    session.shares = {(m.site, m.receiver): m for m in kept["share"]}  # type: ignore[attr-defined, misc]
    session.commitments = {m.site: m for m in kept["masked"]}  # type: ignore[misc]
    session.survivors = list(total.survivors)
    session.signatures = {m.site: m for m in kept["signed"]}  # type: ignore[misc]
    session.answers = {m.site: m for m in kept["unmask"]}  # type: ignore[misc]
    return session


def _site(message: wire.Signed) -> str:
    return message.site


# --- opening ---


def ready() -> list[SecureSum]:
    """Sums that can be opened now: all survivors answered, or enough did and the others had their time."""
    waiting = SecureSum.objects.filter(state="survivors").select_related("round")
    return [total for total in waiting if _may_open(total, now_ms())]


def _may_open(total: SecureSum, now: int) -> bool:
    answers = sorted(total.messages.filter(kind="unmask").values_list("site", flat=True))
    if len(answers) < max(rules.threshold(len(total.sites)), rules.MINIMUM_REMAINING):
        return False
    waited_for = set(total.survivors) & set(live_sites(total.round)) - set(answers)
    return not waited_for or now >= _enough_since(total) + GRACE_MS


def _enough_since(total: SecureSum) -> int:
    """When the newest answer came, by the transcript."""
    found = TranscriptLink.objects.filter(kind="Unmask", key=f"unmask/{total.name}").order_by("-seq").first()
    return found.at if found else 0


def sum_open(total: SecureSum) -> str:
    """Add the survivors' masked inputs, take the masks off, keep the sum as a blob: its sha256.

    FederationError, with whose fault it is, if a secret or an input does not fit.
    """
    folder = Path(settings.GESTALTWEB_HOME) / "federation"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".sum-") as stream:
        for chunk in opened_chunks(server_session(total), total):
            stream.write(chunk)
        stream.flush()
        return storage.blob_add(Path(stream.name))


def opened_chunks(session: ServerSession, total: SecureSum) -> Iterator[bytes]:
    """The opened sum, little-endian, chunk by chunk; one chunk per site in memory."""
    inputs: dict[str, Iterator[Words]] = {
        site: storage.read_words(session.commitments[site].sha256.hex(), f"<u{total.bits // 8}", CHUNK_WORDS)
        for site in total.survivors
    }
    try:
        for chunk in open_sum(session, inputs):
            yield little_endian(chunk)
    except SecAggError as error:
        raise InvalidMessage(str(error)) from None


def sha256_of_sum(session: ServerSession, total: SecureSum) -> str:
    """What the opened sum's hash must be, without keeping it."""
    found = hashlib.sha256()
    for chunk in opened_chunks(session, total):
        found.update(chunk)
    return found.hexdigest()
