# Stores of tensors: safetensors.
