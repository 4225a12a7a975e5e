"""A page in the browser for one image at a time: ``python -m demo RUN``.

Here belongs what shows a trained run to somebody who does not read tables: what is said of an image (``reader``), with what it
is compared (``references``), as HTML (``html``), on a page (``page``). Only ``page`` knows Gradio, which is optional. It stands
on ``runs``, which loads a trained run and its calibration, and on ``explain``, which draws its maps.
"""
