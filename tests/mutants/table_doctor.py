"""doctor/: what is said to be there, absent or broken."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, of

TESTS = ("tests/test_doctor_machine.py", "tests/test_doctor.py")  # the quick ones first

MUTANTS: list[Mutant] = [
    *of(
        "doctor/__main__.py",
        TESTS,
        ('yield Finding(FAIL, check.__name__, f"cannot be looked at', 'yield Finding(OK, check.__name__, f"cannot be looked at'),
        ("        inputs.check_names(asked)\n", "        pass\n"),
        ("    return int(FAIL in states)", "    return 0"),
        ("    return int(FAIL in states)", "    return int(WARN in states)"),
        ("        if finding.mend:", "        if False:"),
        ("{states.count(state)} {state}", "{len(states)} {state}"),
    ),
    *of(
        "doctor/inputs.py",
        TESTS,
        ("        check_name(asked.backbone)\n\n", "        pass\n\n"),
        ("    if constants.HF_HUB_OFFLINE:", "    if not constants.HF_HUB_OFFLINE and False:"),
        ('yield Finding(WARN, "hub", f"{host} is not reachable', 'yield Finding(OK, "hub", f"{host} is not reachable'),
        ("state = FAIL if asked.backbone else WARN", "state = WARN"),
        ("absent(name, Place(folder))", "absent(name, Place(None))"),
        ('to = f" --to {folder}" if folder else ""', 'to = ""'),
        ("Finding(FAIL if asked.datasets else WARN, cls.key, said, mend)", "Finding(WARN, cls.key, said, mend)"),
        ("        return Finding(FAIL, what, str(error))", "        return Finding(WARN, what, str(error))"),
        ('return Finding(WARN, what, "; ".join([said, *notes]), mend) if notes', "return Finding(OK, what, said) if notes"),
        ("asked.datasets or sorted(known)", "asked.datasets"),
        ("sum(map(len, split.values()))", "len(split)"),
    ),
    *of(
        "doctor/machine.py",
        TESTS,
        ("    if version < LOWEST:", "    if version < (2, 7):"),
        ("    elif version > LOCKED:", "    elif version > (4, 0):"),
        ("            absent.append(wanted.name)\n", "            pass\n"),
        ("elif not wanted.specifier.contains(have, prereleases=True):", "elif False:"),
        ("    if absent or low:", "    if absent and low:"),
        ('", …" if len(other) > 4 else ""', '""'),
        ("one.marker is None or one.marker.evaluate()", "one.marker is None"),
        ('        yield Finding(FAIL, "dassl", said)', '        yield Finding(OK, "dassl", said)'),
        ("        if free < 4e9:", "        if free < 4:"),
        ('yield Finding(WARN, "GPU", f"{why}: runs', 'yield Finding(FAIL, "GPU", f"{why}: runs'),
        ("    if used > cores():", "    if used > 100_000:"),
        ("    elif load > 1.5 * cores():", "    elif load > 1500 * cores():"),
        ("        if not place.is_dir():", "        if False:"),
        ("        elif not os.access(place, os.W_OK):", "        elif False:"),
        ('state = WARN if what == "data" else FAIL', "state = WARN"),
        ("        elif free < LOW_DISK:", "        elif free < 0:"),
        ("sum(space['segments'] for space in held)", "len(held)"),
    ),
]  # fmt: skip
