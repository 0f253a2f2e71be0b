"""Worlds: sealed, fingerprinted data sets that a producer replays in one total order.

    transaction   one normalised transaction or label, and its projection on the four outputs and the truth feed
    streams       the file format: compressed blocks of canonical JSON lines with an index
    sealed        opening, reading and verifying a sealed world; nothing here can change one
    sealing       writing one: everything into a side folder, then one rename
    generator     the built-in, seeded world (`population` has its people and places, `dice` its chance)
    importer      real files (`mapping` says what the columns mean, `sources` reads CSV and Parquet rows, `normaliser`
                  turns one row into a transaction or a reason why not)
    progress      how far either has come

A world knows nothing of runs: ids of flows come from the source's rows, so the same file gives the same flows under
any name, and `scenario_run_id` comes from the fingerprint of the content alone.
"""
