"""A new identity key, announced by the old one; safe wherever the machine stops.

The next key waits in identity/waiting.key until the federation has accepted it; until then the old key signs
everything. Where the machine may stop:
- before the key file is complete: nothing has happened;
- after it, before the announcement is committed: the key waits unannounced, and the next try announces it;
- after that: the announcement is queued, signed by the old key, and sent until it is accepted or refused;
- accepted, and the answer lost: the coordinator now knows the new key only and refuses requests of the old
  one. The loop then signs its requests with `key_waiting`, sends the announcement again (which changes
  nothing) and reads it back in the transcript;
- while that entry is folded into the tables: `key_promote` writes the key durably under the next number,
  before the commit. If the commit is lost, the entry is folded again and the key is found in use; a waiting
  key that is in use already waits no longer, whether its file could still be removed or not.
A refused announcement leaves the old key in use; the next try makes another key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import transaction

from diagnosis.errors import NotReady
from diagnosis.models import User
from diagnosis.services.audit import audit
from diagnosis.vault import write_private
from federation import identity, kinds
from federation.models import Membership, Outgoing, Participation
from federation.permissions import require, require_hospital
from federation.services.own import membership_locked, own_peer
from federation.services.projection_rounds import UNFINISHED
from federation.services.speaking import entry_say
from federation.transcript import rotation_bytes

_NO_PART: Final = ("declined", "dropped", "done")


def key_rotate(*, user: User) -> Outgoing:
    """Make the next key and announce it in an entry that the key in use signs. Again: the same entry.

    Every other hospital's admin then confirms the new fingerprint; until then this site does not count
    there. NotReady while this site takes part in a round or has entries that wait.
    """
    require_hospital()
    require(user, "federation.manage")
    with transaction.atomic():
        membership = membership_locked()
        _require_quiet(membership)
        new = _waiting_or_new()
        public = identity.public_hex(new)
        proof = new.sign(rotation_bytes(membership.federation, membership.name, public)).hex()
        key = _announced(public)
        if not Outgoing.objects.filter(key=key).exists():
            audit(actor=user, action="federation.key_announced", subject="federation", public_key=public)
        return entry_say(kinds.Rotate(public, proof), key=key)


def _announced(public: str) -> str:
    return f"rotate/{public[:16]}"


def _require_quiet(membership: Membership) -> None:
    if own_peer() is None:
        raise NotReady("The coordinator has not admitted this site yet. Try again once it has.")
    own = Participation.objects.filter(peer__name=membership.name, round__state__in=UNFINISHED)
    if own.exclude(state__in=_NO_PART).exists():
        raise NotReady("This site is asked or takes part in a round. Change the key after it has ended.")
    if Outgoing.objects.filter(sent=False, refusal="").exclude(kind="Rotate").exists():
        raise NotReady("Entries of this site still wait to be sent. Change the key once they are.")


def _waiting_or_new() -> Ed25519PrivateKey:
    """The key that waits, unless its announcement was refused; then, and without one, a new one."""
    found = key_waiting()
    if found is not None:
        said = Outgoing.objects.filter(key=_announced(identity.public_hex(found))).first()
        if said is None or not said.refusal:
            return found
    made = Ed25519PrivateKey.generate()
    write_private(_path(), made.private_bytes_raw())
    return made


def _path() -> Path:
    return Path(settings.GESTALTWEB_KEYS) / "identity" / "waiting.key"


def key_waiting() -> Ed25519PrivateKey | None:
    """The key that is not in use yet, or None. The loop signs with it where the old one is not known."""
    try:
        found = Ed25519PrivateKey.from_private_bytes(_path().read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise NotReady("The site's next key is damaged. Restore the key folder.") from None
    in_use = identity.public_hex(identity.identity_now())
    return None if identity.public_hex(found) == in_use else found


def key_promote(public_key: str) -> None:
    """Use the waiting key from now on: the federation accepted it. Done already, it changes nothing.

    NotReady if this site holds no key with that public half (64 hex).
    """
    if identity.public_hex(identity.identity_now()) == public_key:
        return
    waiting = key_waiting()
    if waiting is None or identity.public_hex(waiting) != public_key:
        raise NotReady("The federation knows another key of this site than it holds. Restore the key folder.")
    number = identity.identity_versions()[-1] + 1
    write_private(_path().with_name(f"{number}.key"), waiting.private_bytes_raw())  # sorts last: in use
    _path().unlink(missing_ok=True)
