"""How a family of models computes losses, log-probabilities, features and generations. One module a family."""
