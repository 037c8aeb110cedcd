# Living within memory in training: batch size, accumulation, checkpoints.
