"""Weights that others trained: PyTorch names to this package's variables and back."""
