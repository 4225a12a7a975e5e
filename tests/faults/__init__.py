"""One table of faults: what can be wrong with what a user gives, and the line that each program then says."""
