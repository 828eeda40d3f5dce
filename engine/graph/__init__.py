"""The graph of a tower and its frozen form."""
