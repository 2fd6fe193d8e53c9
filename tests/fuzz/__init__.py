"""Fuzzing the verifier: mutations, what they are held against, and who drives them."""
