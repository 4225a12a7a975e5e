"""A trained run as something to give away: a folder of four plain files, with a model card, and the way to the hub.

Here belong what is put into such a folder (``pack``), what must not leave the machine (``scrub``), the card that says what the
run is (``card``), and the upload (``push``). How such a folder is read is the business of ``runs`` (``packed``, ``hub``).
``python -m share`` is its command.
"""
