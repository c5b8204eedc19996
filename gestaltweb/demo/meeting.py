"""How the demonstration's sites come to a federation and to a round that waits for hospital A's answer.

Each site's part is done by a process of its own (`manage.py demo_federation`); this module only carries what
people would tell each other, invitations and fingerprints. What was done before is done no second time.
"""

from __future__ import annotations

from gestaltweb.demo import supervise
from gestaltweb.demo.homes import DemoSites, demo_folder

PART = "demo_federation"


def meet(sites: DemoSites) -> None:
    """Bring running sites so far that hospital A's admin is asked. Quick when they were before."""
    done = demo_folder() / "federated"
    if not done.exists():
        _federate(sites)
        done.touch()
    waits, *others = sites.hospitals
    parts = dict.fromkeys(others, (PART, "answer"))
    parts |= {waits: (PART, "hear"), others[-1]: (PART, "propose")}
    supervise.ask_all(parts, told={"sites": [site.slug for site in sites.hospitals]})


def _federate(sites: DemoSites) -> None:
    asked = {"address": sites.coordinator.address, "titles": [site.name for site in sites.hospitals]}
    codes = supervise.ask(sites.coordinator, PART, "found", told=asked)
    told = {site: supervise.ask(site, PART, "join", told=codes) for site in sites.hospitals}
    read_out = {site.slug: fingerprint for site, fingerprint in told.items()}
    supervise.ask_all(dict.fromkeys(sites.hospitals, (PART, "confirm")), told=read_out)
