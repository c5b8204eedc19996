"""The whole story over HTTP: a day at hospital A, then a round of three hospitals, then a fourth one.

Every step notes whether what should hold did hold; accuracy and times are printed and not judged.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from gestaltweb.demo import story_clinic, story_newcomer, story_round, supervise
from gestaltweb.demo.browser import StoryFailed
from gestaltweb.demo.homes import DemoSites
from gestaltweb.demo.outcome import Outcome


def play(sites: DemoSites) -> dict[str, Any]:
    """Play the story on running sites; never raises for a step that failed, but says so."""
    outcome = Outcome()
    try:
        story_clinic.play(sites.hospitals[0], outcome)
        story_round.play(sites, outcome)
        with ExitStack() as stack:
            stack.enter_context(supervise.running([sites.newcomer]))
            story_newcomer.play(sites, outcome)
    except (StoryFailed, supervise.DemoFailed) as error:
        outcome.problem = str(error)
    return as_json(sites, outcome)


def as_json(sites: DemoSites, outcome: Outcome) -> dict[str, Any]:
    """The outcome as one document."""
    shown = [*sites.members, sites.newcomer]
    return {
        "sites": [{"name": site.name, "role": site.role, "address": site.address} for site in shown],
        "steps": outcome.steps, **outcome.facts, "problem": outcome.problem, "held": outcome.held,
    }  # fmt: skip


def in_words(outcome: dict[str, Any]) -> str:
    """The outcome for a terminal."""
    lines = [f"{'yes' if held else 'NO ':<4} {step}" for step, held in outcome["steps"].items()]
    for site, figures in outcome.get("accuracy", {}).items():
        lines.append(f"     {site}: top-1 of held-out patients {_figures(figures)}")
    if outcome["problem"]:
        lines.append(f"stopped: {outcome['problem']}")
    lines.append("everything held" if outcome["held"] else "something did not hold")
    return "\n".join(lines)


def _figures(figures: dict[str, Any]) -> str:
    words = {"before": "before", "after": "after the round", "local_only": "trained alone"}
    return ", ".join(
        f"{text} {figures[key]:.2f}" for key, text in words.items() if figures.get(key) is not None
    )
