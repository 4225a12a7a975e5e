"""The tests' own test: small faults put into the code one at a time, and whether the tests notice."""
