"""The model: loading it, running it, and intervening on its residual stream."""
