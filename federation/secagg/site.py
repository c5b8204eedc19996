"""One hospital's side of one attempt, as a small state machine: messages in, messages out.

Order: advertise → share → mask → survivors → answer. Each step may be repeated with the same input and gives
the same output; with another input it is refused. `dump` and `load` carry a session over a restart; what
they hold is secret and belongs in the vault, outside backups.

Durability: whatever `advertise`, `share`, `commit`, `sign_survivors` and `answer` return is sent only after
the dump taken behind that call is stored durably. A site that sends first and crashes could answer the same
step differently after its restart. Masking does not leave this to the caller: see `masker`.

A site that advertises and then sends no share, or one that does not open, ends the attempt: nobody can mask.
The refusal names it, and the coordinator starts a new attempt whose plan leaves it out by name; since every
such attempt loses a site, there are at most n − t of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.secagg import keys as k
from federation.secagg import rules, shamir, wire
from federation.secagg.errors import MessageRefused, OutOfOrder, OutOfRange
from federation.secagg.masks import Masker, SignedKey, Words, little_endian, words_sha256

Adverts = dict[str, wire.KeyAdvert]
DUMP_VERSION = 2


def share_binding(keys: bytes, context: bytes, sender: str, receiver: str) -> bytes:
    """Associated data of a sealed share: sender, receiver, attempt and key list."""
    return k.derive(context, "share-binding", keys, sender.encode(), receiver.encode())


def share_hashes(plain: bytes, context: bytes, sender: str, receiver: str) -> tuple[bytes, bytes]:
    """Hashes of the seed's and the mask key's share, to which the dealer is committed."""
    half = k.KEY_BYTES
    return (
        k.share_hash(plain[:half], "seed", context, sender, receiver),
        k.share_hash(plain[half:], "mask", context, sender, receiver),
    )


def require_advert(advert: wire.KeyAdvert, roster: dict[str, bytes], context: bytes) -> None:
    """MessageRefused, with the site's name, unless signed for this attempt and with keys one can agree on."""
    wire.check(advert, wire.KeyAdvert, roster, context)
    try:
        k.require_usable(advert.mask_public)
        k.require_usable(advert.share_public)
    except MessageRefused:
        raise MessageRefused(f"A public key of {advert.site} is not usable; it must start again.") from None


@dataclass
class SiteSession:
    """`roster`: site → Ed25519 public key of the plan's participants, all confirmed by this site.

    masking: sha256 of the plain words, once their masking has begun. signed, answered: given once.
    """

    site: str
    identity: Ed25519PrivateKey = field(repr=False)
    roster: dict[str, bytes]
    context: wire.Context
    secrets: k.AttemptKeys = field(default_factory=k.AttemptKeys.draw, repr=False)
    adverts: Adverts = field(default_factory=dict)
    outgoing: list[wire.SealedShare] = field(default_factory=list)
    shares: dict[str, bytes] = field(default_factory=dict, repr=False)
    masking: bytes | None = field(default=None, repr=False)
    commitment: wire.MaskedCommitment | None = None
    signed: wire.SurvivorSet | None = None
    answered: wire.UnmaskAnswer | None = None

    def __post_init__(self) -> None:
        wire.require_roster(self.roster, self.context)
        if self.site not in self.roster:
            raise MessageRefused("This site is not on the roster of the plan it signed.")
        if self.identity.public_key().public_bytes_raw() != self.roster[self.site]:
            raise MessageRefused("The roster names another key for this site than its own identity.")
        rules.require_enough(self.roster, len(self.roster))

    @property
    def digest(self) -> bytes:
        """(32,) bytes: the attempt."""
        return self.context.digest()

    # --- round 0: keys ----------------------------------------------------------------------------------

    def advertise(self) -> wire.KeyAdvert:
        """This site's public keys and seed commitment, signed."""
        return wire.KeyAdvert(
            site=self.site, context=self.digest, signature=b"", mask_public=self.secrets.mask_public,
            share_public=self.secrets.share_public,
            seed_commitment=k.commitment(self.secrets.seed, self.digest, self.site),
        ).sign(self.identity)  # fmt: skip

    # --- round 1: shares --------------------------------------------------------------------------------

    def share(self, adverts: Iterable[wire.KeyAdvert]) -> list[wire.SealedShare]:
        """Check everybody's keys, then seal one share of seed and mask key for each site, this one too."""
        accepted = self._accept_adverts(list(adverts))
        if self.adverts:
            if accepted != self.adverts:
                raise OutOfOrder("This attempt has a key list already; another one is not accepted.")
            return self.outgoing
        outgoing, own = self._make_shares(accepted)
        self.adverts, self.outgoing, self.shares = accepted, outgoing, {self.site: own}  # all or nothing
        return self.outgoing

    def _accept_adverts(self, adverts: list[wire.KeyAdvert]) -> Adverts:
        for advert in adverts:
            require_advert(advert, self.roster, self.digest)
        found = {advert.site: advert for advert in adverts}
        publics = [key for advert in adverts for key in (advert.mask_public, advert.share_public)]
        if len(found) != len(adverts) or len(set(publics)) != len(publics):
            raise MessageRefused("The key list names a site or a key twice.")
        if found.get(self.site) != self.advertise():
            raise MessageRefused("The key list does not hold this site's own keys.")
        rules.require_enough(found, len(self.roster))
        return {site: found[site] for site in sorted(found)}

    def _make_shares(self, adverts: Adverts) -> tuple[list[wire.SealedShare], bytes]:
        """(what goes out, this site's own share). A site seals for itself too, to commit to that share."""
        n, t = len(adverts), rules.threshold(len(self.roster))
        seeds = shamir.split(self.secrets.seed, threshold=t, shares=n)
        masks = shamir.split(self.secrets.mask_private, threshold=t, shares=n)
        plain = {name: seed + mask for name, seed, mask in zip(adverts, seeds, masks, strict=True)}
        keys = wire.keys_digest(adverts)
        return [self._seal(adverts[name], plain[name], keys) for name in adverts], plain[self.site]

    def _seal(self, receiver: wire.KeyAdvert, plain: bytes, keys: bytes) -> wire.SealedShare:
        binding = share_binding(keys, self.digest, self.site, receiver.site)
        key = self._share_key(receiver.share_public, self.site, receiver.site)
        seed_hash, mask_hash = share_hashes(plain, self.digest, self.site, receiver.site)
        return wire.SealedShare(
            site=self.site, context=self.digest, signature=b"", receiver=receiver.site, keys=keys,
            sealed=k.seal_share(key, plain, binding), seed_share_hash=seed_hash, mask_share_hash=mask_hash,
        ).sign(self.identity)  # fmt: skip

    def _share_key(self, public: bytes, sender: str, receiver: str) -> bytes:
        """One key per direction, so that a share cannot be sent back to its sender as if new."""
        secret = k.agree(self.secrets.share_private, public)
        return k.derive(secret, "share", self.digest, sender.encode(), receiver.encode())

    def receive(self, shares: Iterable[wire.SealedShare]) -> None:
        """Open the shares that others sealed for this site. A site without all of them cannot mask."""
        keys = wire.keys_digest(self._require_keys())
        senders = {site: self.roster[site] for site in self.adverts}
        for message in shares:
            wire.check(message, wire.SealedShare, senders, self.digest)
            if message.receiver != self.site or message.keys != keys:
                raise MessageRefused(f"A share of {message.site} is for another site or another key list.")
            plain = self._open(message)
            if self.shares.setdefault(message.site, plain) != plain:
                raise MessageRefused(f"{message.site} sent two different shares.")

    def _open(self, message: wire.SealedShare) -> bytes:
        binding = share_binding(message.keys, self.digest, message.site, self.site)
        key = self._share_key(self.adverts[message.site].share_public, message.site, self.site)
        try:
            plain = k.open_share(key, message.sealed, binding)
        except MessageRefused:
            raise MessageRefused(f"The share that {message.site} sent cannot be opened.") from None
        hashes = (message.seed_share_hash, message.mask_share_hash)
        if share_hashes(plain, self.digest, message.site, self.site) != hashes:
            raise MessageRefused(f"The share that {message.site} sent is not the one it committed to.")
        return plain

    # --- round 2: masked input --------------------------------------------------------------------------

    def masker(self, plaintext_sha256: bytes, store: Callable[[bytes], None]) -> Masker:
        """The masks of this site, to be applied once, front to back, to the words with this hash.

        plaintext_sha256: (32,) of the plain words, little-endian. `store` keeps a dump durably and is called
        before the masks exist: two different inputs under the same masks would show their difference, so
        after a crash only the same input may be masked again.
        """
        if self.commitment is not None:
            raise OutOfOrder("This attempt's input was masked already; send the stored bytes again.")
        missing = sorted(set(self._require_keys()) - set(self.shares))
        if missing:
            raise OutOfOrder(f"Shares of {', '.join(missing)} are missing.")
        if self.masking not in (None, plaintext_sha256):
            raise OutOfOrder("Masking began with another input; this attempt takes that one only.")
        self.masking = plaintext_sha256
        store(self.dump())
        return Masker([SignedKey(k.self_key(self.secrets.seed, self.digest, self.site), add=True),
                       *self._pair_keys()])  # fmt: skip

    def _pair_keys(self) -> Iterator[SignedKey]:
        for other, advert in self.adverts.items():
            if other != self.site:
                key = k.pair_key(self.secrets.mask_private, advert.mask_public, self.digest, self.site, other)
                yield SignedKey(key, add=other > self.site)

    def commit(self, sha256: bytes) -> wire.MaskedCommitment:
        """Note the hash of the masked words. Must be durable before the first byte is sent."""
        if self.masking is None:
            raise OutOfOrder("Nothing was masked in this attempt yet.")
        made = wire.MaskedCommitment(
            site=self.site, context=self.digest, signature=b"", sha256=sha256, words=self.context.words
        ).sign(self.identity)
        if self.commitment not in (None, made):
            raise OutOfOrder("This attempt's input was masked already, with other bytes.")
        self.commitment = made
        return made

    def mask(self, words: Words, store: Callable[[bytes], None]) -> tuple[bytes, wire.MaskedCommitment]:
        """Mask a whole input at once: (little-endian bytes, commitment). `store` as for `masker`."""
        if words.shape != (self.context.words,) or words.dtype.itemsize * 8 != self.context.bits:
            raise OutOfRange("The input has another length or ring than the plan's. Nothing was sent.")
        masked = words.copy()
        self.masker(words_sha256(words), store).apply(masked)
        data = little_endian(masked)
        return data, self.commit(hashlib.sha256(data).digest())

    # --- round 3 and 4: survivors, answer ---------------------------------------------------------------

    def sign_survivors(
        self, survivors: list[str], commitments: dict[str, wire.MaskedCommitment]
    ) -> wire.SurvivorSet:
        """Sign the set that the coordinator names, after checking all commitments: one set per attempt."""
        self._check_survivors(survivors, commitments)
        made = wire.SurvivorSet(
            site=self.site, context=self.digest, signature=b"", survivors=sorted(survivors),
            keys=wire.keys_digest(self.adverts), commitments=wire.commitments_digest(commitments),
        ).sign(self.identity)  # fmt: skip
        if self.signed not in (None, made):  # Ed25519 signatures are deterministic
            raise OutOfOrder("This site signed another survivor set of this attempt already.")
        self.signed = made
        return made

    def _check_survivors(self, survivors: list[str], commitments: dict[str, wire.MaskedCommitment]) -> None:
        if set(commitments) != set(survivors) or len(set(survivors)) != len(survivors):
            raise MessageRefused("The survivor set and the commitments do not fit each other.")
        if not set(survivors) <= set(self._require_keys()):
            raise MessageRefused("A survivor never sent keys.")
        if self.commitment is None or commitments.get(self.site) != self.commitment:
            raise MessageRefused("The survivor set does not hold this site's own input.")
        for site, message in commitments.items():
            wire.check(message, wire.MaskedCommitment, {site: self.roster[site]}, self.digest)
            if message.words != self.context.words:
                raise MessageRefused(f"The input of {site} has another length than the plan's.")
        rules.require_enough(survivors, len(self.roster))

    def answer(
        self, signatures: Iterable[wire.SurvivorSet], *, opened_before: Iterable[frozenset[str]]
    ) -> wire.UnmaskAnswer:
        """Give the shares that open the sum of the survivor set that this site signed; once per attempt.

        `opened_before`: every set this site has answered for the same base model and purpose in other
        attempts, from a durable record: leaving one out may give a hospital's update away.
        """
        survivors = self._agreed_set(signatures)
        rules.require_openable(opened_before, frozenset(survivors))
        if self.answered is None:
            self.answered = self._answer(survivors)
        return self.answered

    def _agreed_set(self, signatures: Iterable[wire.SurvivorSet]) -> list[str]:
        """The set, once t survivors signed the same as this site. Others' different signatures count not."""
        if self.signed is None:
            raise OutOfOrder("This site has not signed a survivor set of this attempt.")
        own, agreeing = self.signed, {self.site}
        same = ("survivors", "keys", "commitments")
        for message in signatures:
            wire.check(
                message, wire.SurvivorSet, {site: self.roster[site] for site in own.survivors}, self.digest
            )
            if all(getattr(message, name) == getattr(own, name) for name in same):
                agreeing.add(message.site)
        rules.require_enough(agreeing, len(self.roster))
        return own.survivors

    def _answer(self, survivors: list[str]) -> wire.UnmaskAnswer:
        half = k.KEY_BYTES
        alive, dropped = set(survivors), set(self.adverts) - set(survivors)
        return wire.UnmaskAnswer(
            site=self.site, context=self.digest, signature=b"",
            seed_shares={site: self.shares[site][:half].hex() for site in sorted(alive)},
            mask_shares={site: self.shares[site][half:].hex() for site in sorted(dropped)},
        ).sign(self.identity)  # fmt: skip

    def _require_keys(self) -> Adverts:
        if not self.adverts:
            raise OutOfOrder("The key list of this attempt is not known yet.")
        return self.adverts

    # --- over a restart ---------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Everything but identity and roster, as JSON bytes. Secret: seal it, keep it out of backups."""
        secrets = self.secrets
        body: dict[str, Any] = {
            **self._belonging(),
            "secrets": [part.hex() for part in (secrets.mask_private, secrets.share_private, secrets.seed)],
            "adverts": [_text(advert) for advert in self.adverts.values()],
            "outgoing": [_text(message) for message in self.outgoing],
            "shares": {site: share.hex() for site, share in self.shares.items()},
            "masking": self.masking.hex() if self.masking else None,
            "commitment": _text(self.commitment), "signed": _text(self.signed),
            "answered": _text(self.answered),
        }  # fmt: skip
        return json.dumps(body).encode()

    def _belonging(self) -> dict[str, Any]:
        """What a dump must match to be loaded."""
        return {"version": DUMP_VERSION, "site": self.site, "context": self.digest.hex(),
                "roster": wire.roster_digest(self.roster)}  # fmt: skip

    @classmethod
    def load(
        cls, data: bytes, *, site: str, identity: Ed25519PrivateKey, roster: dict[str, bytes],
        context: wire.Context,
    ) -> SiteSession:  # fmt: skip
        """The session that `dump` wrote; MessageRefused for one of another site, attempt or roster."""
        body = json.loads(data)
        session = cls(site, identity, roster, context,
                      k.AttemptKeys(*(bytes.fromhex(part) for part in body["secrets"])))  # fmt: skip
        if any(body.get(name) != value for name, value in session._belonging().items()):
            raise MessageRefused("The stored session belongs to another site, attempt, roster or version.")
        session.adverts = {advert.site: advert for advert in map(_message, body["adverts"])}
        session.outgoing = [_message(text) for text in body["outgoing"]]
        session.shares = {name: bytes.fromhex(share) for name, share in body["shares"].items()}
        session.masking = bytes.fromhex(body["masking"]) if body["masking"] else None
        session.commitment, session.signed, session.answered = (
            _message(body[name]) for name in ("commitment", "signed", "answered")
        )
        return session


def _text(message: wire.Signed | None) -> str | None:
    return None if message is None else wire.encode(message).decode()


def _message(text: str | None) -> Any:
    return None if text is None else wire.decode(text.encode())
