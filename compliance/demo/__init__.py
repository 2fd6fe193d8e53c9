"""The demonstration: a customer's corpus of people who do not exist, and the whole path walked on it."""
