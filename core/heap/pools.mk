# Pools over named heaps: buffers, objects, the step context, regions.
