"""How strong the attacks of a run were, from its saved tables."""
