"""An experiment's results as one self-contained page."""
