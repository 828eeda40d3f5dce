"""Reading pickles of plain data from files that nobody vouches for."""
