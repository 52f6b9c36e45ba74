"""Flax Linen modules, pure functions of (variables, frames)."""
