# Optimizers: update kernels, state, schedules.
