"""Image classification: the experiments by which the four papers prove their norms."""
