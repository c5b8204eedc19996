"""Doors of the federation's console: they ask for the role, parse, call one service or selector, answer."""
