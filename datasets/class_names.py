"""Which class a folder or a label on disk stands for: by its own name, by its number, or by a mapping that the user gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dassl.utils import UserError
from datasets.names import spelled

Classes = Mapping[str, tuple[int, str]]  # key: a folder's name, or a label in a table -> label, class name


def plain(name: str) -> str:
    """A name as it is compared: case, spaces, "_" and "-" make no difference."""
    if name.startswith("-") and name[1:].isdecimal():
        return name  # a label below 0
    return name.replace("_", " ").replace("-", " ").strip().lower()


def classes_of(
    keys: Sequence[str], classnames: Sequence[object], folders: Sequence[object], where: str, what: str = "folder"
) -> tuple[Classes, list[str]]:
    """Label and name of each key that stands for a class, and what is to be said of it.

    Args:
        keys: names of the folders, or labels of a table, in the order that they get where nothing else orders them.
        classnames: DATASET.CLASSNAMES; empty takes the keys themselves.
        folders: DATASET.CLASS_FOLDERS, the key of each class name; empty matches names, or numbers by their order.
        where: in messages.
        what: a key is: "folder" or "label".

    Raises:
        UserError: names without a key, keys or names twice, a mapping of another length.
    """
    names, wanted = [str(name) for name in classnames], [str(folder) for folder in folders]
    _refuse_twins(keys, where, what)
    for name in (*keys, *names):
        if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
            raise UserError(f"{where}: the {what} or class name {ascii(name)} has characters that are no text: rename it")
    if len(set(names)) < len(names):
        raise UserError(f"DATASET.CLASSNAMES has a name twice: {', '.join(names)}")
    if wanted:
        if len(wanted) != len(names) or len(set(wanted)) < len(wanted):
            raise UserError(f"DATASET.CLASS_FOLDERS must name one {what} for each of the {len(names)} DATASET.CLASSNAMES")
        return _found(keys, wanted, names, where, what), []
    if not names:
        notes = []
        if all(key.isdigit() for key in keys):
            notes.append(f"the class names are numbers ({', '.join(keys)}): DATASET.CLASSNAMES gives them words")
        return {key: (label, spelled(key)) for label, key in enumerate(keys)}, notes
    by_plain = {plain(key) for key in keys}
    if not any(plain(name) in by_plain for name in names) and all(key.isdigit() for key in keys):
        numbers = _numbered(keys, names)
        if numbers:
            shown = ", ".join(f"{key} = {name}" for key, name in zip(numbers, names, strict=True))
            return _found(keys, numbers, names, where, what), [f"{what}s to class names by their order: {shown}"]
    return _found(keys, names, names, where, what), []


def _numbered(keys: Sequence[str], names: Sequence[str]) -> list[str]:
    """The keys in numerical order where there is one for each name, or the key of each name's place; else none."""
    ordered = sorted(keys, key=int)
    if len(ordered) == len(names):
        return ordered
    places = [str(place) for place in range(len(names))]
    return places if set(ordered) <= set(places) else []


def _found(keys: Sequence[str], wanted: Sequence[str], names: Sequence[str], where: str, what: str) -> Classes:
    by_plain = {plain(key): key for key in keys}
    classes = {}
    for label, (key, name) in enumerate(zip(wanted, names, strict=True)):
        if plain(key) not in by_plain:
            have = ", ".join(keys)
            hint = "" if set(map(plain, wanted)) & set(by_plain) else f". Map them: CLASSNAMES: {{{keys[0]}: {name}, …}}"
            raise UserError(f'{where} has no {what} for the class "{name}" ({what}s there: {have}){hint}')
        classes[by_plain[plain(key)]] = (label, name)
    return classes


def _refuse_twins(keys: Sequence[str], where: str, what: str) -> None:
    seen: dict[str, str] = {}
    for key in keys:
        twin = seen.setdefault(plain(key), key)
        if twin != key:
            raise UserError(f'{where}: the {what}s "{twin}" and "{key}" are one class by their names: rename one')
