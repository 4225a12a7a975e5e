"""Metrics, tables, figures and the report: knows files, not models.

Here belongs what is made of runs' files: their form (``results``, ``predictions``, ``curves``), the metrics of predictions, the
choice of runs, tables, tests between methods, figures and the HTML page. It imports nothing else of this project, so it reads
results on a machine without PyTorch; the packages above may use it, ``runs`` to write the files that it reads. What needs a
model is in ``explain``.
"""
