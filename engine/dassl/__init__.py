"""The part of Dassl's public API that plugin trainers use, written afresh for current PyTorch.

Names, signatures, config keys and defaults, log lines, learning rates and the few-shot draw are those of upstream
(KaiyangZhou/Dassl.pytorch 0.6). Left out are its domain-adaptation and semi-supervised trainers and datasets, its own
CNNs other than the ResNets, and the layers in ``dassl.modeling.ops``. What is meant to differ:

* The order of the images and their random views come from streams of their own, a function of seed, epoch, pass and image:
  they depend neither on the number of workers nor on what the method draws. Loaders that other code builds around the same
  datasets and samplers have new ones in every pass too.
* A checkpoint holds tensors and plain values, the random sources among them, and is read without executing anything. One of
  upstream's, which holds its schedule as an object, is read but for that; a run resumed from it steps its own schedule to
  the epoch. A resumed run ends with the numbers of one that was never interrupted, learning rate and best result included.
* ``load_model`` without an epoch takes the last model where no best one was kept.
* What upstream lets pass is an error: pre-trained weights of which no tensor fits, ``multi_step`` without epochs, a
  loader without a batch, a name that is not there (with the nearest that is). Such errors are a :class:`UserError` and
  also of the type that upstream raises.
* ``Datum`` does not look for its file; an image that cannot be read is named when it is read.
* An older ``log.txt`` is kept under its time, and the new run writes ``log.txt``; upstream does it the other way round, and
  so does this where the older one is of a training that came to its end.
* ``TrainerBase.prograd_backward_and_update`` is its forks'.
* ``cmat.pt`` holds a tensor of all classes. AutoAugment's policies are torchvision's (they rotate in both directions).
"""

__version__ = "1.0.0"
