"""Many runs as one piece of work: which there are, which are done, who does the rest, and what was lived through.

Here belongs what looks at runs from above: grids as data, plans, engines, the journal, what a person sees. What one run is
and how it is trained is known below (``runs``); what runs left behind is read by ``analysis``.
"""
