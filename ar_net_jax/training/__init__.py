"""Training: state, pure steps, optimizer, stages and the loop around them."""
