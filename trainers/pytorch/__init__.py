"""The built-in epoch loop: the PyTorch kind of training."""
