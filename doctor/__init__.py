"""Whether everything that a run needs is there and whole, and how to mend what is not: ``python -m doctor``.

Here belong looks at the machine (``machine``) and at what runs load from outside the project (``inputs``); each yields
:class:`doctor.findings.Finding`. Nothing is changed. What needs a package is imported where it is used, so that a report on a
half installed environment still comes out.
"""
