"""Playing controllers in bulk, and what is made of the results."""
