"""Training-free editors, one file per method, the table that names them and the loop that runs them."""
