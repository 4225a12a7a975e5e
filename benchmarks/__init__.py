"""What the speed is worth: this code against itself doing the repeated work of the released code (docs/PERFORMANCE.md).

Here belongs what measures and compares; it may look into every other package, and none looks into it. What makes runs fast is
in the package that does the work.
"""
