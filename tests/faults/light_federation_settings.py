"""The development settings with light stand-ins for the networks and for a hospital's share of a round."""

from gestaltweb.settings.dev import *  # noqa: F403
from gestaltweb.settings.dev import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.light_federation.LightFederation"]
