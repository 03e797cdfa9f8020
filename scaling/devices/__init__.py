"""Which devices there are, and where arrays lie on them: layouts, sharding, chips, hosts."""
