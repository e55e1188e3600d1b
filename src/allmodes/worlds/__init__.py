"""Small enumerable worlds: known optima, exact outcome distributions, many settings trained at once."""
