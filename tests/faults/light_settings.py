"""The development settings with light stand-ins for the networks."""

from gestaltweb.settings.dev import *  # noqa: F403
from gestaltweb.settings.dev import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.light_networks.LightNetworks"]
