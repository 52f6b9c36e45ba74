"""The device suite: what a paper would ask of a borrowed accelerator, in the time there is."""
