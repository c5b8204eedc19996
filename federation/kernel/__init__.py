"""The joint kernel: hospitals compare patients through masked embeddings (FLAKE, arXiv 2306.02677).

mask, sealing, commitments, config: a site's side; what leaves it and under which secret. gallery, gram: the
coordinator's side; distances of masked rows, block by block, no Gram matrix kept. policy, budgets, state,
release, session: what may be said about them, as one state machine. audit: how sites check it. eligibility,
cohorts: who may be in it at all, and what leaves of a group. No framework, no torch, no I/O.
"""
