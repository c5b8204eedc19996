"""From embeddings to a ranked list, what it is worth, and how accurate it is. numpy only.

distance, grouping, gallery, rank: a photo against a gallery. centroids, whitening: the other way to rank.
bands, match, logistic, calibration: what a distance and a list are worth, measured on held-out people.
metrics, intervals, cohort: figures. gmdb_files, gmdb: GestaltMatcher's files and its accuracy table.
"""
