"""How wide to draft: what a rule accepts, what the best one could, which tree is worth its cost."""
