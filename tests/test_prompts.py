"""The prompt library against its rules, the check against broken files, importers, and the report of cosines."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from analysis.separability import class_cosines, separability_table
from dassl.utils import UserError
from datasets import by_key
from datasets.prompts import FOLDER, check, convert, load_prompts, rules
from datasets.prompts.files import facts_for, read_record
from explain import prompts
from tests.conftest import BTMRI_CLASSES, write_dataset

BTMRI = FOLDER / "btmri.json"


@pytest.mark.parametrize("key", sorted(by_key()))
def test_the_library_keeps_its_rules(key: str) -> None:
    record, _ = read_record(FOLDER / f"{key}.json")
    assert check.check_record(record, facts_for(key)) == []
    assert record["instruction"] == rules.INSTRUCTION
    loaded = load_prompts(key, by_key()[key].published_classnames, 50)
    assert all(len(set(texts)) == 50 for texts in loaded.texts.values())


def test_the_library_has_56_classes_of_50_prompts() -> None:
    loaded = [load_prompts(key, cls.published_classnames, 50).texts for key, cls in by_key().items()]
    assert len(loaded) == 11 and sum(map(len, loaded)) == 56
    assert sum(len(texts) for of_dataset in loaded for texts in of_dataset.values()) == 56 * 50


def test_no_prompt_is_cut_by_clips_context_of_77_tokens() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=256)
    for key, cls in by_key().items():
        for texts in load_prompts(key, cls.published_classnames, 50).texts.values():
            assert int((tokenizer(texts) != 0).sum(dim=1).max()) <= 77


GLIOMA, BRAIN = "glioma tumor", "normal brain"


def changed(where: str, change: Any) -> dict[str, Any]:
    """BTMRI's file with one thing changed: the first glioma sentence, its attribute, or the whole record."""
    record = deepcopy(read_record(BTMRI)[0])
    first = record["prompts"][GLIOMA][0]
    if where == "record":
        change(record)
    else:
        first[where] = change(first[where]) if callable(change) else change
    return record


def same_opening(record: dict[str, Any]) -> None:
    for entry in record["prompts"][GLIOMA][:9]:
        entry["text"] = "Here, indeed " + " ".join(entry["text"].split()[:26]).rstrip(".") + "."


def reworded(record: dict[str, Any]) -> None:
    text = record["prompts"][GLIOMA][3]["text"]
    record["prompts"][BRAIN][5]["text"] = text.replace(GLIOMA, BRAIN).replace("MRI", "MR")


BROKEN = [
    ("text", "Dark glioma tumor on MRI.", "5 words instead of 12 to 30"),
    ("text", lambda t: t[:-1] + " " + "and more " * 15 + "here.", "words instead of 12 to 30"),
    ("text", lambda t: t.rstrip("."), "not one single sentence"),
    ("text", lambda t: "It is dark. " + t, "not one single sentence"),
    ("text", lambda t: t.replace("glioma tumor", "gliomas"), "does not name the class"),
    ("text", lambda t: t.replace("MRI", "imaging"), "does not name the modality"),
    ("text", lambda t: t.replace("forms", "often forms"), 'hedges ("often")'),
    ("text", lambda t: t.replace("MRI", "MRI after radiotherapy"), 'no image shows ("radiotherapy")'),
    ("text", lambda t: t.replace("MRI", f"MRI {'x' * 250}"), "may exceed the 256 tokens"),
    ("text", lambda t: t.replace("glioma tumor", "glioma_tumor"), "does not name the class"),
    ("text", 7, "sentence 1 is not a text"),
    ("attribute", "mood", 'the attribute "mood"'),
    ("record", lambda r: r["prompts"][GLIOMA].pop(), "49 sentences instead of 50"),
    ("record", lambda r: r["prompts"].pop(BRAIN), f'no prompts for the class "{BRAIN}"'),
    ("record", lambda r: r["prompts"].update({"glioma tumour": r["prompts"][GLIOMA]}), 'Did you mean "glioma tumor"?'),
    ("record", lambda r: r["prompts"].update({GLIOMA: r["prompts"].pop(GLIOMA)}), "another order"),
    ("record", lambda r: r["prompts"][GLIOMA][0].pop("attribute"), "sentence 1 has no attribute"),
    ("record", lambda r: r["prompts"][GLIOMA].__setitem__(1, r["prompts"][GLIOMA][0]), "near-duplicates (1.00"),
    ("record", lambda r: [e.update(attribute="shape") for e in r["prompts"][GLIOMA]], '0 sentences on "margin"'),
    ("record", lambda r: r.pop("licence"), '"licence" is missing'),
    ("record", lambda r: r.update(organ="breast"), '"organ" is "breast", the dataset has "brain"'),
    ("record", lambda r: r.update(prompts=[]), "must hold"),
    ("record", same_opening, '9 sentences begin with "here, indeed"'),
    ("record", reworded, "near-duplicates"),
]


@pytest.mark.parametrize("where, change, what", BROKEN)
def test_each_fault_is_found_and_is_one_line(where, change, what, tmp_path, capsys) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(changed(where, change)))
    assert check.main([str(path), "--dataset", "btmri"]) == 1
    told = capsys.readouterr()
    lines = told.err.strip().splitlines()
    assert all(line.startswith(f"fault: {path}: ") for line in lines) and any(what in line for line in lines)
    assert "0 of 1 files without faults" in told.out


def test_words_of_two_sentences_overlap_as_sets_without_class_and_modality() -> None:
    one = rules.content_words("A dark, dark rim marks the glioma tumor on MRI.", GLIOMA, "MRI")
    other = rules.content_words("A bright rim marks the normal brain on magnetic resonance images.", BRAIN, "MRI")
    assert one == {"a", "dark", "rim", "marks", "the", "on"}
    assert rules.overlap(one, other) == pytest.approx(5 / 8)


def test_a_class_given_twice_and_a_missing_file_are_told(tmp_path, capsys) -> None:
    path = tmp_path / "twice.json"
    path.write_text('{"prompts": {"a": ["x"], "a": ["y"]}}')
    assert check.main([str(path), str(tmp_path / "none.json")]) == 1
    told = capsys.readouterr().err
    assert '"a" stands there twice' in told and "no prompt file" in told
    assert check.main(["btmrii"]) == 2
    assert 'Did you mean "btmri"' in capsys.readouterr().err


def test_class_names_are_compared_with_the_split_file(btmri_root, tmp_path, capsys) -> None:
    assert check.main(["btmri", "--root", str(btmri_root)]) == 0
    other = write_dataset(tmp_path, "BTMRI", (*BTMRI_CLASSES[:3], "normal brains"))
    assert check.main(["btmri", "--root", str(other)]) == 1
    assert '"normal brains", which has no prompts. Did you mean "normal brain"?' in capsys.readouterr().err


# -- importers --------------------------------------------------------------------------------------------

TEXTS = {name: [f"{name} number {n}, as printed." for n in range(3)] for name in BTMRI_CLASSES}
MARK = "was_executed"
HOSTILE = [
    "import os\nos.system('touch {mark}')\nT = {texts}",
    "T = {texts}\n__import__('os').system('touch {mark}')",
    "T = {{'normal brain': [__import__('os').system('touch {mark}')]}}",
    "T = {{'normal brain': [f\"{{open('{mark}', 'w')}}\"]}}",
    "T = {texts}\nT['x'] = open('{mark}', 'w')",
    "class T:\n    open('{mark}', 'w')",
    "def f():\n    pass\nT = {texts}",
    "T = [x for x in open('{mark}', 'w')]",
    "T: open('{mark}', 'w') = {texts}",
    "T = " + "(" * 5000 + ")" * 5000,
    "T = {{'a': ['b'",
    "T = 'a'\x00",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_a_hostile_file_is_refused_and_nothing_is_executed(source, tmp_path, capsys) -> None:
    path, out = tmp_path / "hostile.py", tmp_path / "out.json"
    mark = tmp_path / MARK
    path.write_text(source.format(mark=mark, texts=TEXTS) if "{mark}" in source or "{texts}" in source else source)
    assert convert.main([str(path), "--dataset", "btmri", "-o", str(out)]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ") and "\n" not in told and str(path) in told
    assert not mark.exists() and not out.exists()


def as_csv(header: str, row: str) -> str:
    return "\n".join([header, *(row.format(name, text) for name, texts in TEXTS.items() for text in texts)])


TEMPLATE = 'CUSTOM_TEMPLATES = {"BTMRI": "a photo of a {}."}'
PUBLISHED = {
    "one dictionary.py": f'"""Prompts."""\n{TEMPLATE}\nTEMPLATES = {TEXTS | {"x": ["y"]}}',
    "by dataset.py": f"TEMPLATES: dict = { ({'BTMRI': TEXTS, 'BUSI': {}}) }",
    "other spelling.py": f"T = { ({name.title().replace(' ', '_'): texts for name, texts in TEXTS.items()}) }",
    "plain.json": json.dumps(TEXTS),
    "form of the library.json": json.dumps({"prompts": {n: [{"text": t} for t in texts] for n, texts in TEXTS.items()}}),
    "rows.csv": as_csv("class,text", '{0},"{1}"'),
    "more columns.csv": as_csv("\ufeffText,note,Class", '"{1}",ignored,{0}'),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_forms_are_imported_word_for_word(name: str, tmp_path: Path) -> None:
    path, out = tmp_path / name, tmp_path / "out.json"
    path.write_text(PUBLISHED[name], encoding="utf-8")
    assert convert.main([str(path), "--dataset", "btmri", "-o", str(out), "--language-model", "GPT-4"]) == 0
    assert load_prompts(out, BTMRI_CLASSES, 3).texts == TEXTS
    record = json.loads(out.read_text())
    assert (record["dataset"], record["language_model"], record["template"]) == ("BTMRI", "GPT-4", by_key()["btmri"].template)
    assert check.main([str(out), "--loadable"]) == 0 and check.main([str(out)]) == 1
    assert convert.main([str(path), "--dataset", "btmri", "-o", str(out)]) == 2  # never over an existing file


IMPOSSIBLE = {
    "absent.json": (json.dumps({"normal brain": ["a"]}), "no list of sentences for glioma tumor"),
    "two.py": (f"A = {TEXTS}\nB = { ({**TEXTS, 'normal brain': ['other']}) }", 'two different lists for "normal brain"'),
    "columns.csv": ("name,words\na,b", 'needs the columns "class" and "text"'),
    "row.csv": ("class,text\nnormal brain,", "line 2: no class or no text"),
    "quote.csv": ('class,text\nnormal brain,"a"b', "is no CSV"),
    "kind.txt": ("normal brain: a", "must be a .py, .csv or .json file"),
    "nothing.json": (json.dumps({**TEXTS, "normal brain": []}), "no list of sentences for normal brain"),
    "twice.json": (json.dumps(TEXTS)[:-1] + ', "normal brain": ["b"]}', '"normal brain" stands there twice'),
    "twice.py": (f"T = {str(TEXTS)[:-1]}, 'normal brain': ['b']}}", "'normal brain'\" stands there twice"),
    "half.json": (json.dumps({**TEXTS, "normal brain": ["\ud800"]}), "half of a character"),
    "numbers.json": (json.dumps({**TEXTS, "normal brain": [1, 2]}), "normal brain: sentence 1 is not a text"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_imported_is_told_in_one_line(name: str, tmp_path: Path, capsys) -> None:
    source, what = IMPOSSIBLE[name]
    (tmp_path / name).write_text(source)
    assert convert.main([str(tmp_path / name), "--dataset", "btmri", "-o", str(tmp_path / "out" / "x.json")]) == 2
    told = capsys.readouterr().err.strip()
    assert what in told and "\n" not in told and not (tmp_path / "out").exists()


def test_of_two_dictionaries_one_is_named(tmp_path: Path, capsys) -> None:
    other = {**TEXTS, "normal brain": ["other"]}
    path = tmp_path / "two.py"
    path.write_text(f"PAPER = {TEXTS}\nSECOND = {other}")
    words = [str(path), "--dataset", "btmri", "-o"]
    assert convert.main([*words, str(tmp_path / "no.json")]) == 2 and "--dictionary PAPER" in capsys.readouterr().err
    assert convert.main([*words, str(tmp_path / "no.json"), "--dictionary", "SECOMD"]) == 2
    assert 'Did you mean "SECOND"?' in capsys.readouterr().err and not (tmp_path / "no.json").exists()
    for name, texts in (("PAPER", TEXTS), ("SECOND", other)):
        out = tmp_path / f"{name}.json"
        assert convert.main([*words, str(out), "--dictionary", name]) == 0
        assert load_prompts(out, BTMRI_CLASSES, 1).texts == {key: value[:1] for key, value in texts.items()}
        assert f", {name}, SHA-256" in json.loads(out.read_text())["instruction"]


def test_repeated_sentences_of_other_authors_are_kept_and_told(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**TEXTS, BRAIN: ["Same.", "Same.", "Other."]}))
    assert convert.main([str(tmp_path / "a.json"), "--dataset", "btmri", "-o", str(tmp_path / "out.json")]) == 0
    assert f"{BRAIN}: sentence 2 repeats sentence 1" in capsys.readouterr().err
    assert load_prompts(tmp_path / "out.json", BTMRI_CLASSES, 3).texts[BRAIN] == ["Same.", "Same.", "Other."]


def test_an_own_dataset_is_described_by_its_yaml(tmp_path: Path) -> None:
    own = {"NAME": "ImageFolderSplit", "FOLDER": str(tmp_path / "scans"), "MODALITY": "elastography", "ORGAN": "liver"}
    for name in ("soft_lesion", "hard_lesion"):
        (tmp_path / "scans" / name).mkdir(parents=True)
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump({"DATASET": own}))
    facts = facts_for(str(config))
    assert facts.classnames == ("hard lesion", "soft lesion") and facts.modality == "elastography"
    good = "On elastography the hard lesion is a stiff round island in blue among the softer green liver."
    assert rules.sentence_faults(good, "hard lesion", facts.modality) == []
    assert rules.sentence_faults(good.replace("elastography", "film"), "hard lesion", facts.modality)
    with pytest.raises(UserError, match="MODALITY"):
        config.write_text(yaml.safe_dump({"DATASET": own | {"MODALITY": ""}}))
        facts_for(str(config))


def test_other_forms_are_sent_to_the_converter() -> None:
    with pytest.raises(UserError, match="datasets.prompts.convert paper.py"):
        load_prompts("paper.py", BTMRI_CLASSES, 50)


# -- separability -----------------------------------------------------------------------------------------


def test_mean_cosines_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(n, 7)) + 2 * c for c, n in enumerate((4, 5, 3))]
    matrix = class_cosines(features)
    for a, rows in enumerate(features):
        for b, others in enumerate(features):
            pairs = [
                float(x @ y) / np.sqrt((x @ x) * (y @ y))
                for i, x in enumerate(rows)
                for j, y in enumerate(others)
                if a != b or i != j
            ]
            assert matrix[a, b] == pytest.approx(np.mean(pairs), abs=1e-9)
    (row,) = separability_table("t", {"toy": (("a", "b", "c"), matrix)}, "csv").splitlines()[1:]
    within, between = np.mean(np.diag(matrix)), np.mean(matrix[np.triu_indices(3, 1)])
    assert row.split(",")[:4] == ["t", "toy", f"{within:.3f}", f"{between:.3f}"]
    with pytest.raises(ValueError, match="two prompts"):
        class_cosines([features[0][:1]])


def test_the_report_writes_a_table_and_a_heat_map_per_dataset(tiny_biomedclip: Path, tmp_path: Path, capsys) -> None:
    from PIL import Image

    tower = ["--backbone", "BiomedCLIP", "--backbone-path", str(tiny_biomedclip)]
    assert prompts.main(["busi", "btmri", *tower, "--separability", str(tmp_path / "report")]) == 0
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["btmri.png", "busi.png", "separability.md"]
    with Image.open(tmp_path / "report" / "btmri.png") as image:
        assert min(image.size) > 300
    table = (tmp_path / "report" / "separability.md").read_text()
    assert "BiomedCLIP" in table and "btmri" in capsys.readouterr().out
    assert check.main(["busi", "--separability", str(tmp_path / "x")]) == 2  # without a model
    assert "explain.prompts" in capsys.readouterr().err and not (tmp_path / "x").exists()
