"""Small operations that methods share."""
