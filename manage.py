#!/usr/bin/env python
"""The project's command line. `python manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    os.umask(0o077)  # whatever a command writes is this user's alone
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gestaltweb.settings.dev")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
