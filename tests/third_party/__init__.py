"""Trainers as a repository outside this project writes them: nothing of it is imported but ``dassl``."""
