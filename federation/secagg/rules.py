"""The numbers and the one memory that decide whether a sum may be opened at all (docs/adr/0005)."""

from __future__ import annotations

from collections.abc import Iterable

from federation.secagg.errors import OpeningRefused, TooFew

MINIMUM_REMAINING = 3


def threshold(sites: int) -> int:
    """t = ⌊2n/3⌋ + 1 of the plan's n sites: fewer survivors cannot open anything."""
    return 2 * sites // 3 + 1


def colluders(sites: int) -> int:
    """c: how many hospitals, together with the coordinator, still learn no single remaining update.

    c = min(2t − n − 1, max(3, t) − 2): more could open two survivor sets, or a set with one honest site.
    """
    t = threshold(sites)
    return min(2 * t - sites - 1, max(MINIMUM_REMAINING, t) - 2)


def require_enough(survivors: Iterable[str], sites: int) -> None:
    """TooFew unless at least t and at least three sites remain."""
    remaining, needed = len(set(survivors)), max(threshold(sites), MINIMUM_REMAINING)
    if remaining < needed:
        raise TooFew(
            f"{remaining} sites remain and {needed} are needed; the attempt ends, nothing is opened."
        )


def require_openable(opened: Iterable[frozenset[str]], survivors: frozenset[str]) -> None:
    """OpeningRefused unless every set opened for the same base model and purpose is equal to this one.

    Sets that merely differ by many sites do not do: three sums can add up to one site's input (ADR 0005).
    """
    for earlier in opened:
        if earlier != survivors:
            raise OpeningRefused(
                f"A sum over {len(earlier)} other sites was opened for this base model already. Only the "
                "same sites can be summed again: wait for all of them, or start from another base model."
            )
