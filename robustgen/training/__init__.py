"""Training of the assets that ship: generator, encoder, classifier."""
