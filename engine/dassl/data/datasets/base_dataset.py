"""An image with its label, and a dataset of them."""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence

from dassl.utils import SettingError, UserError, check_availability, download_url

log = logging.getLogger(__name__)


class Datum:
    """One image.

    Args:
        impath: image file.
        label: class index, from 0.
        domain: domain index.
        classname: class name.
    """

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = "") -> None:
        if not isinstance(impath, str):
            raise TypeError(f"impath must be a string, got {impath!r}")
        self._impath, self._label, self._domain, self._classname = impath, label, domain, classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname

    def __repr__(self) -> str:
        return f"Datum({self._impath!r}, label={self._label}, classname={self._classname!r})"


class DatasetBase:
    """Lists of :class:`Datum` for labelled and unlabelled training, validation and test.

    Raises:
        SettingError: a label with two names, or one between the others that no image has.
    """

    dataset_dir = ""
    domains: Sequence[str] = ()

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ) -> None:
        self._train_x, self._train_u, self._val, self._test = train_x, train_u, val, test
        # of all parts: a class without training images would shift the names of those behind it
        labelled = [*(train_x or []), *(val or []), *(test or [])]
        self._check_labels(labelled)
        self._num_classes = self.get_num_classes(labelled)
        self._lab2cname, self._classnames = self.get_lab2cname(labelled)

    @property
    def train_x(self) -> list[Datum] | None:
        return self._train_x

    @property
    def train_u(self) -> list[Datum] | None:
        return self._train_u

    @property
    def val(self) -> list[Datum] | None:
        return self._val

    @property
    def test(self) -> list[Datum] | None:
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        return self._classnames

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: Iterable[Datum]) -> int:
        """Highest label + 1."""
        return max((item.label for item in data_source), default=-1) + 1

    @staticmethod
    def get_lab2cname(data_source: Iterable[Datum]) -> tuple[dict[int, str], list[str]]:
        """Label -> class name, and the class names by label."""
        mapping = {item.label: item.classname for item in data_source}
        return mapping, [mapping[label] for label in sorted(mapping)]

    def _check_labels(self, data_source: Iterable[Datum]) -> None:
        names: dict[int, str] = {}
        for item in data_source:
            if names.setdefault(item.label, item.classname) != item.classname:
                raise SettingError(
                    f'{type(self).__name__}: label {item.label} is "{names[item.label]}" and "{item.classname}" '
                    f"({item.impath})"
                )
        absent = sorted(set(range(max(names, default=-1) + 1)) - set(names))
        if absent or min(names, default=0) < 0:
            what = f"no image has the label {absent[0]}" if absent else f"an image has the label {min(names)}"
            raise SettingError(f"{type(self).__name__}: {what}: labels must count from 0 without a gap")

    def check_input_domains(self, source_domains: Sequence[str], target_domains: Sequence[str]) -> None:
        """Check that both name domains, and only domains of this dataset.

        Raises:
            SettingError: no source or no target domain.
            UnknownNameError: a domain that this dataset does not have.
        """
        for kind, domains in (("source", source_domains), ("target", target_domains)):
            if not domains:
                raise SettingError(f"{type(self).__name__} needs one {kind} domain at least")
            self.is_input_domain_valid(domains)

    def is_input_domain_valid(self, input_domains: Sequence[str]) -> None:
        """Raise an :class:`UnknownNameError` for a domain that this dataset does not have."""
        for domain in input_domains:
            check_availability(domain, self.domains)

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False
    ) -> list[Datum] | list[list[Datum]] | tuple[list[Datum], ...]:
        """Draw ``num_shots`` images per label from each source with ``random.sample``, labels in order of appearance.

        A label with fewer images gives all it has, or is drawn from with replacement when ``repeat`` is set.
        ``num_shots < 1`` returns the sources unchanged.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        log.info("Creating a %d-shot dataset", num_shots)
        output = []
        for source in data_sources:
            drawn: list[Datum] = []
            for items in self.split_dataset_by_label(source).values():
                if len(items) >= num_shots:
                    drawn.extend(random.sample(items, num_shots))
                else:
                    drawn.extend(random.choices(items, k=num_shots) if repeat else items)
            output.append(drawn)
        return output[0] if len(output) == 1 else output

    def split_dataset_by_label(self, data_source: Iterable[Datum]) -> dict[int, list[Datum]]:
        """Label -> its images, labels in order of first appearance."""
        output: dict[int, list[Datum]] = defaultdict(list)
        for item in data_source:
            output[item.label].append(item)
        return output

    def split_dataset_by_domain(self, data_source: Iterable[Datum]) -> dict[int, list[Datum]]:
        """Domain -> its images, domains in order of first appearance."""
        output: dict[int, list[Datum]] = defaultdict(list)
        for item in data_source:
            output[item.domain].append(item)
        return output

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Fetch an archive to ``dst`` and unpack it beside it.

        Raises:
            UserError: gdown is not installed, or the download failed.
        """
        folder = os.path.dirname(dst) or "."
        os.makedirs(folder, exist_ok=True)
        if from_gdrive:
            try:
                import gdown
            except ImportError as error:
                raise UserError("downloading from Google Drive needs gdown: pip install gdown") from error
            gdown.download(url, dst, quiet=False)
        else:
            download_url(url, dst)
        if not os.path.isfile(dst):
            raise UserError(f"{url} could not be downloaded to {dst}")
        log.info("Extracting file ...")
        shutil.unpack_archive(dst, folder)
        log.info("File extracted to %s", folder)
