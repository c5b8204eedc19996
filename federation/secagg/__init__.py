"""Zero-sum masked secure aggregation: Bonawitz et al. 2017 (CCS; ePrint 2017/281) on a complete graph.

Message in, message out: nothing here opens a file, a socket or a database, and nothing here knows torch or
Django. `site.SiteSession` is one hospital's side of one attempt, `server.ServerSession` the coordinator's.
"""
