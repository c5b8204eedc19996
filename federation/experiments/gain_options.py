"""What the gain experiment runs, and how it was chosen: on cohorts that are never reported."""

from __future__ import annotations

from dataclasses import replace

from federation.experiments.cohort_features import Cohort
from federation.experiments.gain import GainOptions
from federation.experiments.plans import RoundOptions
from federation.learning.config import AnalyticOptions, LocalTraining, ServerStep

#: Cohorts on which rates, rounds and shrinkage were chosen. No figure of theirs is reported.
TUNING_COHORTS = (30, 31, 32)
#: Cohorts are reported from 0 on, in order: which ones follows from how many seeds are asked for.
SEEDS = 5
PATIENTS, SYNDROMES = 1800, 40

LOCAL = LocalTraining(epochs=5, neck_learning_rate=1e-3, classifier_learning_rate=3e-4)
ROUNDS = 10
#: The minima are lowered to measure the strategy. A real plan keeps them, and is refused at this size.
LOWERED = AnalyticOptions(
    shrinkage=0.1, between_exponent=0.25, minimum_patients=1, diagonal_minimum_patients=1
)


#: Further ways for a site to train alone, each with the options that served it best on the tuning cohorts.
RIVALS = (
    (
        "alone, trained, its own best rate",
        RoundOptions("fedavg", rounds=ROUNDS, local=replace(LOCAL, neck_learning_rate=5e-4)),
    ),
    ("alone, trained, stopped at its best round", RoundOptions("fedavg", rounds=6, local=LOCAL)),
    (
        "alone, closed form, its own best shrinkage",
        RoundOptions("analytic", analytic=AnalyticOptions(shrinkage=0.9, between_exponent=0.125)),
    ),
)
TRIED: tuple[str, ...] = ()


def strategies(local: LocalTraining = LOCAL, rounds: int = ROUNDS) -> tuple[RoundOptions, ...]:
    """Every strategy on the same local training, so that all but the closed form have one twin."""
    proximal = replace(local, proximal_mu=0.1)
    return (
        RoundOptions("fedavg", rounds=rounds, local=local),
        RoundOptions("fedprox", rounds=rounds, local=proximal),
        RoundOptions("fedadam", rounds=rounds, local=local, server=ServerStep(learning_rate=0.01, tau=0.01)),
        RoundOptions("fedavgm", rounds=rounds, local=local, server=ServerStep(momentum=0.5)),
        RoundOptions("analytic", analytic=LOWERED),
    )


def gain_options(seeds: int = SEEDS) -> GainOptions:
    """The reported experiment. ValueError for a number of seeds that there are no cohorts for."""
    if not 2 <= seeds <= min(TUNING_COHORTS):
        raise ValueError(
            f"Choose from 2 to {min(TUNING_COHORTS)} seeds; the other cohorts served for tuning."
        )
    return GainOptions(cohorts=tuple(range(seeds)), strategies=strategies(), rivals=RIVALS)


def quick_options(seeds: int = 2) -> GainOptions:
    """A run of a minute or so; its figures mean nothing."""
    few = replace(gain_options(min(seeds, 2)), minimum_held_out=1, draws=100)
    return replace(few, strategies=strategies(replace(LOCAL, epochs=1), rounds=2), holdout_share=0.4)


def cohort_of(number: int, *, quick: bool = False) -> Cohort:
    """Who is rendered for a seed."""
    return Cohort(number, 240, 6) if quick else Cohort(number, PATIENTS, SYNDROMES)
