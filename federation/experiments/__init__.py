"""Experiments with synthetic patients, run by the very code of the rounds; no framework, no network.

cohort_features renders and caches, partition spreads patients over silos, secure sums in memory with the
real sessions, rounds federates, alone trains the twins, gain compares.
"""
