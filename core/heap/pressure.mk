# Giving memory back: purge hints, the pressure ladder, spilling a heap.
