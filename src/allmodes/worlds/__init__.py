"""Small enumerable worlds with known optima, exact outcome distributions, and batched training."""
