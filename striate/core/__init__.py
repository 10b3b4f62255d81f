"""What a user holds: arrays, the functions on them, function transforms."""
