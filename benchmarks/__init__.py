"""What the speed is worth: this code against itself doing the repeated work of the released code (docs/PERFORMANCE.md)."""
