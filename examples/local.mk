# examples: programs a newcomer runs and copies
EXTRA_DIST += examples/orders.sql
