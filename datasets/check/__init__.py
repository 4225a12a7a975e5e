"""Looks at all images and labels of a dataset, and says what is wrong with them: ``python -m datasets.check``.

``files`` reads every image once, ``twins`` finds those that are there twice, ``findings`` says what that means for the split,
``report`` prints it. ``parallel.unreadable`` also serves a run that met a file which it cannot read.
"""
