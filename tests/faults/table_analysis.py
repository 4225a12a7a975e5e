"""parse_results.py and the analysis programs: results files of others, damaged or hostile, beside a whole one."""

from __future__ import annotations

import gzip
from typing import Any

from tests.faults.fault import FIFO, FOLDER, Fault, lent, link, run, sealed
from tests.faults.table_train import NESTED

RESULT, PLACE, RUN, NAME, PREDICTIONS, BANDS = (
    "a results file", "a place to write", "a run's folder", "an unknown name", "stored predictions", "a band file")  # fmt: skip
BAD = "all/few_shot/mine/shots_2/CoOp_PhantomCLIP/other/seed2"
GOOD = "all/few_shot/mine/shots_2/CoOp_PhantomCLIP/nctx4/seed1"


def beside(what: str, line: str = "damaged", program: str = "parse_results.py all", code: int = 0, **changes: Any) -> Fault:
    """A bad run beside a whole one: the table of the whole one is there, the bad one is named."""
    return Fault(RESULT, what, program, line, code, given={GOOD: lent("finished"), BAD: run(**changes)}, leaves=())


def metric(what: str, value: Any, key: str = "metrics.accuracy", **more: Any) -> Fault:
    """A results file with such a value."""
    return beside(what, results={"seed": 2, key: value}, **more)


RESULTS = [
    metric("accuracy infinite", float("inf")),
    metric("accuracy NaN", float("nan")),
    metric("accuracy 5000 %", 5000.0),
    metric("accuracy -3 %", -3.0),
    metric("accuracy a text", "high"),
    metric("accuracy a text of digits", "70.0"),
    metric("accuracy true", True),
    metric("accuracy a list", [1.0]),
    metric("accuracy of 400 digits", 10**400),
    metric("metrics a list", [1, 2], "metrics"),
    metric("metrics without accuracy", {"macro_f1": 3.0}, "metrics"),
    metric("metrics empty", {}, "metrics"),
    metric("an unknown metric", 3.0, "metrics.vibes", line="CoOp      100.00 ± 0.00"),
    metric("method a number", 7, "method"),
    metric("method a list", ["CoOp"], "method"),
    metric("method with control characters", "Co\x1b[2JOp", "method"),
    metric("dataset a mapping", {"a": 1}, "dataset"),
    metric("split unknown", "middle", "split"),
    metric("split a list", ["all"], "split"),
    metric("num_shots infinite", float("inf"), "num_shots"),
    metric("num_shots a text", "many", "num_shots"),
    metric("num_shots 1.5", 1.5, "num_shots"),
    metric("seed of 400 digits", 10**400, "seed"),
    metric("seed a text", "one", "seed"),
    metric("variant nothing", 3, "variant"),
    metric("schema unknown", 99, "schema"),
    metric("schema a text", "new", "schema"),
    metric("changed a list", [1], "changed"),
    metric("changed without values", {"OPTIM.LR": 3}, "changed"),
    metric("departures a number", 4, "departures"),
    metric("departures of lists", [[1]], "departures"),
    metric("warnings a number", 4, "warnings"),
    metric("modality a list", [1], "modality"),
    metric("config_hash a number", 4, "config_hash"),
    metric("git a text", "main", "git"),
    metric("rehearsal a text", "no", "rehearsal"),
    metric("files a list", [1], "files"),
    metric("files with negative sizes", {"config.yaml": -4}, "files"),
    metric("files outside the folder", {"../../../../../../../etc/passwd": 1}, "files"),
    metric("files with NUL", {"a\0b": 1}, "files"),
    metric("complete a text", "yes", "complete"),
    metric("split_kind a list", [1], "split_kind"),
    metric("fingerprints a list", [1], "fingerprints", line="mine"),
    beside("empty", results=""),
    beside("cut short", results='{"complete": true, "met'),
    beside("a list", results="[1, 2]"),
    beside("nothing", results="null"),
    beside("no UTF-8", results=b"\xff\xfe\0"),
    beside("nested 100,000 deep", results=NESTED),
    beside("a number of 5000 digits", results='{"complete": true, "seed": ' + "9" * 5000 + "}"),
    beside("surrogates", results='{"complete": true, "method": "\\ud800"}'),
    beside("is a FIFO", results_dot_json=FIFO),
    beside("is a folder", results_dot_json=FOLDER),
    beside("nobody may read it", results_dot_json=sealed("{}")),
    beside("is a link to itself", results_dot_json=link("results.json")),
    *[metric(f"accuracy infinite, in {program.split()[0]} {program.split()[1]}", float("inf"), program=program, line=line, code=code)
      for program, line, code in (("-m analysis.report all -o page.html", "1 unfinished or damaged", 0),
                                  ("-m analysis.check all --record bands.json", "left out", 0),
                                  ("-m analysis.figures all -o drawn --formats svg", "left out", 0))],
    *[metric(f"method a list, in {program.split()[1]}", ["x"], "method", program=program, line=line, code=code)
      for program, line, code in (("-m analysis.report all -o page.html", "1 unfinished or damaged", 0),
                                  ("-m analysis.check all --record bands.json", "left out", 0))],
    metric("per-class figures garbled, in report", {"x": [None]}, "per_class", program="-m analysis.report all -o page.html",
           line="page.html"),
    metric("confusion garbled, in report", [[1], "x"], "confusion_matrix", program="-m analysis.report all -o page.html",
           line="page.html"),
    metric("classnames numbers, in report", [1, 2, 3], "classnames", program="-m analysis.report all -o page.html",
           line="page.html"),
]  # fmt: skip

ALONE = [
    Fault(RUN, "no runs", "parse_results.py .", "no finished log.txt below"),
    Fault(RUN, "not there", "parse_results.py nowhere", "no folder nowhere"),
    Fault(RUN, "a file", "parse_results.py mine", "no folder mine", given={"mine": "x"}),
    Fault(RUN, "not there", "-m analysis.report nowhere", "no run below nowhere"),
    Fault(RUN, "not there", "-m analysis.figures nowhere -o x", "nowhere"),
    Fault(RUN, "not there", "-m analysis.check nowhere", "no finished run below nowhere"),
    Fault(RUN, "not there", "-m analysis.metrics nowhere", "no results.json"),
    Fault(NAME, "metric", "parse_results.py {world}/out --metric vibes", "vibes"),
    Fault(NAME, "method", "parse_results.py {world}/out --ablation Nobody", "Nobody"),
    Fault(NAME, "methods to compare", "parse_results.py {world}/out --paired CoOp Nobody", "Nobody"),
    Fault(NAME, "kind of figure", "-m analysis.figures {world}/out -o x --only pie", "pie"),
    Fault(NAME, "methods to compare", "-m analysis.report {world}/out --paired CoOp Nobody", "Nobody"),
    Fault("a setting's value", "--bootstrap-seed -1", "parse_results.py {world}/out --paired CoOp CoOp --bootstrap-seed -1",
          "bootstrap"),
    Fault("a setting's value", "--thumbnails -1", "-m analysis.report {world}/out -o x.html --thumbnails -1", "--thumbnails"),
    Fault("a setting's value", "--tolerance NaN", "-m analysis.check {world}/out --record x.json --tolerance nan", "--tolerance"),
    Fault("a setting's value", "--floor -1", "-m analysis.check {world}/out --record x.json --floor -1", "--floor"),
    Fault(RUN, "log.txt of another program", "parse_results.py mine --test-log", "mine", given={"mine/seed1/log.txt": "hello"}),
    Fault(RUN, "log.txt is a FIFO", "parse_results.py mine --test-log", "mine", given={"mine/seed1/log.txt": FIFO}),
    Fault(RUN, "log.txt nobody may read", "parse_results.py mine --test-log", "Permission denied",
          given={"mine/seed1/log.txt": sealed("x")}),
]  # fmt: skip


def stored(what: str, content: Any, line: str = "predictions.csv.gz") -> Fault:
    """A run with such predictions, measured again."""
    return Fault(PREDICTIONS, what, "-m analysis.metrics mine", line, given={"mine": run(predictions_dot_csv_dot_gz=content)})


def table(*rows: str) -> bytes:
    """A gzipped CSV."""
    return gzip.compress("\n".join(rows).encode(), mtime=0)


STORED = [
    stored("empty", b""),
    stored("not packed", "path,label,prob_0\n"),
    stored("cut short", table("path,label,prob_0,prob_1", *["a.png,0,0.5,0.5"] * 99)[:-9]),
    stored("no rows", table("path,label,prob_0,prob_1,prob_2")),
    stored("other columns", table("a,b", "1,2")),
    stored("NaN", table("path,label,prob_0,prob_1,prob_2", "a.png,0,nan,0.5,0.5")),
    stored("a label beyond the classes", table("path,label,prob_0,prob_1,prob_2", "a.png,9,0.1,0.5,0.4")),
    stored("a label of 400 digits", table("path,label,prob_0,prob_1,prob_2", f"a.png,{'9' * 400},0.1,0.5,0.4")),
    stored("probabilities of 7", table("path,label,prob_0,prob_1,prob_2", "a.png,0,7,7,7")),
    stored("is a FIFO", FIFO),
    stored("is a folder", FOLDER),
    stored("nobody may read it", sealed("x")),
    Fault(PREDICTIONS, "of other classes", "-m analysis.metrics mine", "does not fit", given={"mine": run(results={"classnames": ["a"]})}),
    Fault(RESULT, "cut short", "-m analysis.metrics mine", "cannot be read", given={"mine": run(results='{"a')}),
    Fault(RESULT, "classnames a number", "-m analysis.metrics mine", "results.json", given={"mine": run(results={"classnames": 3})}),
    Fault(RESULT, "method missing", "-m analysis.metrics mine", "results.json", given={"mine": run(results={"method": None})}),
]  # fmt: skip

CELL = '{"method": "CoOp", "backbone": "x", "setting": "", "dataset": "mine", "split": "all", "shots": 2, "rehearsal": false, '


def bands(what: str, content: Any, line: str = "bands.json is no band file") -> Fault:
    """A band file of such a content."""
    return Fault(BANDS, what, "-m analysis.check {world}/out --bands bands.json", line, given={"bands.json": content})


CHECKS = [
    bands("empty", ""),
    bands("a list", "[1]"),
    bands("nested 100,000 deep", NESTED),
    bands("a mean of NaN", '{"metric": "accuracy", "cells": [' + CELL + '"mean": NaN, "band": 1}]}'),
    bands("a band of text", '{"metric": "accuracy", "cells": [' + CELL + '"mean": 1, "band": "x"}]}'),
    bands("a mean of 400 digits", '{"metric": "accuracy", "cells": [' + CELL + f'"mean": {"9" * 400}, "band": 1}}]}}'),
    bands("cells of text", '{"metric": "accuracy", "cells": ["x"]}'),
    bands("an unknown metric", '{"metric": "vibes", "cells": []}'),
    bands("seeds of lists", '{"metric": "accuracy", "cells": [' + CELL + '"mean": 1, "band": 1, "seeds": [[1]]}]}'),
    bands("metric a list", '{"metric": [], "cells": []}'),
    bands("a FIFO", FIFO),
    bands("a folder", FOLDER),
]  # fmt: skip

COMMANDS = {
    "report": "-m analysis.report {{world}}/out -o {0}",
    "figures": "-m analysis.figures {{world}}/out --formats svg -o {0}",
    "check": "-m analysis.check {{world}}/out --record {0}",
}
PLACES = [
    Fault(PLACE, what, COMMANDS[name].format(target), line, given={} if given is None else {target.split("/")[0]: given})
    for what, target, line, given, names in (
        ("is a folder", "there", "there", FOLDER, "report check"),
        ("is a file", "there", "there", "mine", "figures"),
        ("lies below a file", "there/x", "there", "mine", "report figures check"),
        ("in a folder nobody may write to", "there/x", "Permission denied", sealed(FOLDER, 0o555), "report figures check"),
        ("in /proc", "/proc/x", "/proc", None, "report figures check"),
        ("is a FIFO", "there", "there", FIFO, "report figures check"),
        ("has a name too long", "y" * 300, "File name too long", None, "report figures check"),
    )
    for name in names.split()
]  # fmt: skip

FAULTS = [*RESULTS, *ALONE, *STORED, *CHECKS, *PLACES]
