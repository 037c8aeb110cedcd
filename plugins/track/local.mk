# Tracker plugins: alloc and free run inside foreign programs, report() in memopt.
