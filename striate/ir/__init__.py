"""What a program is: types, ops, nodes, graphs."""
