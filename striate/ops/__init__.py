"""The primitive ops: each with its rules, derivatives and NumPy reference."""
