"""Graph -> Graph functions, and the interpreter."""
