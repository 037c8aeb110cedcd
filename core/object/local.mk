# Objects: reference counts, copy-on-write, lazy state, scopes.
