"""What hospitals learn together: neck and classifier over cached trunk features, or closed-form heads.

No I/O and no framework: arrays and bytes in, arrays and bytes out. What leaves a site goes through
`words` and then through `federation.secagg`, never otherwise.
"""
