"""The sentences of the approval page, true to the letter of the protocol (docs/threat-model.md).

Plain words first. Every number is computed from the plan: what is not known before the round has counted is
given as a span.
"""

from __future__ import annotations

from federation.moments import at, duration, when
from federation.plans import EMBEDDING_SIZE, RoundPlan, update_words
from federation.secagg import rules

__all__ = [
    "asked", "at", "could_learn", "duration", "leaves", "never_leaves", "remaining", "settings_of",
    "update_bytes", "when", "without_answer",
]  # fmt: skip

Sentences = tuple[str, ...]
STRATEGY_WORDS = {
    "fedavg": "federated averaging (fedavg)",
    "fedprox": "federated averaging with a pull towards the shared model (fedprox)",
    "fedadam": "federated averaging with Adam at the sum (fedadam)",
    "fedavgm": "federated averaging with momentum (fedavgm)",
    "analytic": "closed-form heads (analytic)",
}


def remaining(plan: RoundPlan) -> int:
    """The fewest hospitals over which a sum of this plan is opened."""
    return max(rules.MINIMUM_REMAINING, rules.threshold(plan.minimum_participants))


def update_bytes(plan: RoundPlan) -> tuple[int, int]:
    """(least, most) bytes of all masked updates of one hospital: 2 open syndromes, or the whole catalogue."""
    words = [
        sum(update_words(member, classes) for member in plan.members)
        for classes in (min(2, plan.vocabulary_size), plan.vocabulary_size)
    ]
    return 4 * words[0], 4 * words[1]


def asked(plan: RoundPlan, proposer: str) -> Sentences:
    epochs = sorted({member.local.epochs for member in plan.members})
    return (
        f"{proposer} asks this hospital to train the shared model with photos of its own patients, "
        f"{' or '.join(map(str, epochs))} local epochs by {STRATEGY_WORDS[plan.strategy]}. "
        f"{len(plan.invited)} hospitals are invited; at least {plan.minimum_participants} must take part.",
        "Only photos of patients who agreed to training (item 3 of the form) and who have a confirmed "
        "diagnosis are used. Consent is read again at the moment when the photos are used.",
        f"Use of the data, in the proposer's words: {plan.data_use}",
    )


def leaves(plan: RoundPlan, samples: int) -> Sentences:
    least, most = update_bytes(plan)
    networks = "one network" if len(plan.members) == 1 else f"{len(plan.members)} networks"
    return (
        f"A masked update of {networks}, {least:,} to {most:,} bytes (4 bytes per number; how many depends "
        "on how many syndromes are open). Alone it cannot be told from uniform noise.",
        f"The number of training photos, rounded up to tens: {samples:,}. Every member reads it.",
        f"For each of the {plan.vocabulary_size:,} syndromes of the catalogue, whether this hospital has at "
        f"least {plan.k} own patients of it: only inside a secure sum, which says that some hospital has, "
        "not which one. Such syndromes are called open.",
        f"For open syndromes of which this hospital has at least {plan.k} own patients: their number, their "
        "part of the update and, once the model is accepted, the sum of their embeddings "
        f"({plan.rows_per_member * len(plan.members)} × {EMBEDDING_SIZE} numbers per syndrome), only inside "
        "secure sums. For every other syndrome it puts exact zeros.",
        "Its vote on the result (accept, reject or abstain) with the hashes of the model it computed; if it "
        "accepts, that model's files, which follow from the opened sum and are equal at every hospital.",
        "Signed messages: this answer, public keys, sealed shares of the masks' secrets, lists of hospitals, "
        "hashes, and with each its time and size.",
        f"The sum over at least {remaining(plan)} hospitals is opened and published to all members and the "
        "coordinator, and so is the model that follows from it.",
    )


def never_leaves() -> Sentences:
    return (
        "Photos, crops, and embeddings or features of a single patient.",
        "Names, dates of birth, codes and identifiers of patients, their consent forms, cases and signs.",
        "The update without its mask, the learning curves and the figures on own patients.",
        "The name of the person who answers: the entry is signed by the hospital's key. The name stays in "
        "this hospital's records.",
    )


def could_learn(plan: RoundPlan) -> Sentences:
    invited, least = len(plan.invited), plan.minimum_participants
    spans = [f"If all {invited} invited hospitals take part: {_colluding(invited)}"]
    if least != invited:
        spans.append(f"If only {least} take part: {_colluding(least)}")
    return (
        *spans,
        "Every member can subtract its own part from the opened sum and so learns the sum over the others.",
        "Everybody learns which syndromes are open, and how many patients the hospitals have of each "
        "together. If this hospital alone has patients of an open syndrome, its number and its sum "
        "stand there as they are; the others then know that they are not theirs, not whose they are.",
        "Whoever holds a photo of a patient can guess from the published model and centroids, better than by "
        f"chance, whether that patient was among them. That at least {plan.k} own patients stand behind "
        "every part of a syndrome makes this harder and does not rule it out.",
        "A patient who withdraws later is left out of the next rounds and leaves the centroids with the next "
        "allowed publication; a model that was already trained keeps what it learned.",
        "The coordinator sees who takes part, when, and how large each message is. It belongs to no member "
        "hospital.",
        "Masks also hide a dishonest hospital's update. Therefore every hospital tries the result on its own "
        "patients before it votes.",
        "All of this holds if the keys are those of the hospitals that they are shown for: compare "
        "fingerprints with people, not with this page.",
    )


def _colluding(sites: int) -> str:
    c = rules.colluders(sites)
    others = f"{c} other hospital" if c == 1 else f"{c} other hospitals"
    return (
        f"the coordinator together with {others} learns the sum over the remaining {sites - c}, and no "
        f"single hospital's update. With more than {c} it could learn this hospital's update."
    )


def without_answer(plan: RoundPlan) -> Sentences:
    until = when(at(plan.schedule.answer_by))
    return (
        f"Without an answer by {until} this hospital takes no part, and nothing of it leaves.",
        f"The round then goes on without it if at least {plan.minimum_participants} others approve. "
        "Otherwise it ends, and nothing is opened.",
        "A yes can be taken back until the masked update has been made; afterwards it is part of the sum.",
    )


def settings_of(plan: RoundPlan) -> tuple[tuple[str, str], ...]:
    """The plan as (label, value) rows, for those who want to know exactly."""
    networks = ", ".join(f"{m.name} ({m.architecture}, {m.base_sha256[:12]}…)" for m in plan.members)
    local, schedule, vote = plan.members[0].local, plan.schedule, plan.vote
    return (
        ("Round", str(plan.number)),
        ("Strategy", plan.strategy),
        ("Local epochs", _each(plan, "epochs")),
        ("Photos per step", _each(plan, "batch_photos")),
        ("Learning rate, neck", _each(plan, "neck_learning_rate")),
        ("Learning rate, classifier", _each(plan, "classifier_learning_rate")),
        *((("Proximal mu", _each(plan, "proximal_mu")),) if local.proximal_mu else ()),
        ("Learning rate of the sum", f"{plan.server.learning_rate:g}"),
        ("Fewest own patients per syndrome (k)", str(plan.k)),
        ("Fewest hospitals", str(plan.minimum_participants)),
        ("Networks", networks),
        ("Catalogue", f"{plan.vocabulary_size:,} syndromes, {plan.vocabulary_sha256[:12]}…"),
        ("Goes on from round", plan.previous_round[:12] or "none: the first"),
        ("Longest step", duration(schedule.step_seconds)),
        ("Longest training", duration(schedule.training_seconds)),
        ("Time to vote", duration(schedule.vote_seconds)),
        ("Accepting votes needed", str(vote.quorum)),
        ("Rejected below", f"−{vote.largest_loss:.1%} macro top-1, from {vote.minimum_patients} patients on"),
        ("Seed", str(plan.seed)),
    )


def _each(plan: RoundPlan, field: str) -> str:
    """A setting of local training; once if all networks share it."""
    values = [f"{getattr(member.local, field):g}" for member in plan.members]
    return values[0] if len(set(values)) == 1 else ", ".join(values)
