"""The tables of the documentation, made from the code they describe."""
