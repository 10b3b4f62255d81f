"""Side-by-side benchmarks of striate with its peers; `make bench`, or `python -m bench SUITE`."""
