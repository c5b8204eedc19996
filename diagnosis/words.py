"""Words that stand in several places: what a list is not, and names of states and bands.

Pages carry the same sentences in their templates, where they are translated; a test compares them.
"""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext_lazy as _

RESEARCH_USE: Final = (
    "Research use. Decision support for qualified clinicians. Not a diagnosis and not a substitute for "
    "genetic testing."
)
LIST_NOTICE: Final = (
    "Syndromes whose known patients look most alike. Similarity is not probability. The correct disorder may "
    "be absent or lower in the list."
)
NO_MATCH: Final = (
    "No confident match. Unaffected faces also receive suggestions; the absence of a match does not exclude "
    "a genetic disorder."
)
SYNTHETIC: Final = "Trained on synthetic faces, for demonstration, not for patients."

STATE_WORDS = {
    "open": _("open"), "ranked": _("ranked"), "solved": _("solved"), "unsolved": _("unsolved"),
    "withdrawn": _("withdrawn"),
}  # fmt: skip
BAND_WORDS = {"high": _("High"), "medium": _("Medium"), "low": _("Low")}
