"""What an intervention breaks: losses, drift and benchmark items beside the baseline, gathered in one panel."""
