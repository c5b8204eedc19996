"""What the Django-free rooms refuse, as an error that services may raise and pages may show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diagnosis.phenotype.errors import PhenotypeError
from federation.errors import FederationError
from federation.learning.errors import LearningError
from federation.secagg.errors import SecAggError


@contextmanager
def refused_in_words() -> Iterator[None]:
    """Refusals of learning, secure aggregation and the science become a FederationError, sentence kept."""
    try:
        yield
    except (LearningError, SecAggError, PhenotypeError) as error:
        raise FederationError(str(error)) from error
