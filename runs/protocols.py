"""The runs of a protocol: which there are, what is done already, what trains and what tests."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path

from yacs.config import CfgNode

from analysis.layout import CROSS
from dassl.utils import UserError
from runs.config import altered
from runs.cross import is_tested, require_fitting, source_of, target_config, target_files
from runs.identity import check_same_images, check_same_settings, dataset_key, run_folder
from runs.progress import begin_anew, finished_epochs, is_complete
from runs.run import run, run_together
from runs.seed_batch import cannot, is_stackable, stackable_methods
from runs.tasks import TASKS, needs_transfer
from trainers import methods


def fitting_methods(task: str) -> list[str]:
    """Names of the methods that fit a protocol, or ``seeds-together``, in the order in which the tables list them."""
    if task == "seeds-together":
        return stackable_methods()
    return [name for name, cls in methods().items() if cls.transfers or not needs_transfer(task)]


def check_fits(method: str, task: str, together: bool = False) -> None:
    """Whether a method can be run by a protocol.

    Raises:
        UserError: it is no method of this project, has nothing to say of new classes, or is trained seed by seed.
    """
    cls = methods().get(method)
    if cls is None:
        raise UserError(f"{method} is a trainer of another project: protocols run this project's methods, give --output-dir")
    if needs_transfer(task) and not cls.transfers:
        raise UserError(f"{method} learns a classifier of the classes that it saw and has none for new ones")
    if together and not is_stackable(cls):
        raise UserError(cannot(method))


def stage_configs(cfg: CfgNode, task: str, root: str | Path, key: str, targets: Sequence[str | Path] = ()) -> list[CfgNode]:
    """The config of each stage of a protocol, with the folder that follows from its settings; the first trains.

    Args:
        cfg: frozen; its split and folder are replaced.
        root: folder of all runs.
        key: the dataset's name among the folders.
        targets: of cross_dataset, which has a stage for each: names of datasets or YAML files, as :func:`run_task` takes them.

    Raises:
        UserError: a folder holds a run with other settings, or on other images of this name.
    """
    configs = []
    for stage in TASKS[task][: 1 if task == CROSS else None]:
        one = altered(cfg, {"DATASET.SUBSAMPLE_CLASSES": stage.split})
        one = altered(one, {"OUTPUT_DIR": str(run_folder(root, stage.folder, key, one))})
        check_same_images(one, Path(root) / stage.folder / key)
        check_same_settings(one, Path(one.OUTPUT_DIR))
        configs.append(one)
    if task == CROSS:
        configs += [target_config(configs[0], file, key, root) for file in target_files(targets, cfg, key)]
    return configs


def run_task(
    cfg: CfgNode,
    task: str,
    root: str | Path,
    named: str,
    *,
    shots: Sequence[int] = (),
    seeds: Sequence[int] = (),
    together: bool = False,
    eval_only: bool = False,
    model_dir: str = "",
    load_epoch: int | None = None,
    restart: bool = False,
    targets: Sequence[str | Path] = (),
    verbose: bool = False,
) -> list[Path]:
    """All runs of a protocol, in folders that follow from the settings; what is done is skipped.

    Args:
        cfg: frozen config of method, backbone and dataset (:func:`runs.config.configured`).
        task: a key of :data:`runs.tasks.TASKS`.
        root: folder of all runs.
        named: the dataset's name among the folders, its config file's by custom; own images go by their title.
        shots, seeds: one run of the protocol for each pair; the config's own by default.
        together: train the seeds of a setting as one batch.
        eval_only: test the trained runs again, and write their results files anew.
        model_dir: folder of a trained run to test, in place of the protocol's own.
        load_epoch: of the checkpoint to test; the last one by default.
        restart: unfinished runs begin anew instead of going on from their last checkpoint.
        targets: of cross_dataset: names of files in configs/datasets, or paths of YAML files; by default all published datasets
            that are in DATASET.ROOT. The source's run is that of few_shot, and is not made again where it is done.
        verbose: show each run's whole log, and not a line for each epoch.

    Returns:
        The folders of the runs, those that were done before among them.

    Raises:
        UserError: the method does not fit, a folder holds a run with other settings, or a run cannot go on.
    """
    check_fits(cfg.TRAINER.NAME, task, together)
    if together and (eval_only or cfg.RESUME):
        raise UserError("--seeds-together is for training: neither --eval-only nor --resume go with it")
    if targets and task != CROSS:
        raise UserError(f"targets are for {CROSS}, this is {task}")
    key = dataset_key(cfg, named)
    for seed in seeds:
        if not -(2**63) <= seed < 2**63:
            raise UserError(f"--seeds: a seed must be below 2**63, this has {seed.bit_length()} bits")
    by_shots = []
    for k in shots or [cfg.DATASET.NUM_SHOTS]:
        own = [altered(cfg, {"DATASET.NUM_SHOTS": k, "SEED": seed}) for seed in dict.fromkeys(seeds or [cfg.SEED])]
        by_shots.append([stage_configs(one, task, root, key, targets) for one in own])
    if task == CROSS:
        require_fitting(by_shots[0][0][0], by_shots[0][0][1:])
    if restart:
        for stages in chain.from_iterable(by_shots):
            begin_anew(stages[0].OUTPUT_DIR)
    for of_seeds in by_shots:
        fresh = train_together([stages[0] for stages in of_seeds], verbose) if together else ()
        for stages in of_seeds:
            run_stages(stages, fresh, eval_only=eval_only, model_dir=model_dir, load_epoch=load_epoch, verbose=verbose)
    return [Path(one.OUTPUT_DIR) for of_seeds in by_shots for stages in of_seeds for one in stages]


def train_together(cfgs: Sequence[CfgNode], verbose: bool = False) -> list[str]:
    """Train the seeds that are not done, as one batch for each epoch that they go on from.

    Returns the folders of what was trained; a seed whose epoch no other goes on from is left to be trained alone.
    """
    waiting: dict[int, list[CfgNode]] = {}
    for one in cfgs:
        if not is_complete(one.OUTPUT_DIR):
            waiting.setdefault(finished_epochs(one.OUTPUT_DIR), []).append(one)
    fresh: list[str] = []
    for epochs, group in waiting.items():
        if len(group) > 1:
            run_together(group, verbose)
            fresh += [one.OUTPUT_DIR for one in group]
        else:
            print(f"seed {group[0].SEED} trains alone: no other seed that is not done has finished {epochs} epochs")
    return fresh


def run_stages(
    cfgs: Sequence[CfgNode],
    fresh: Collection[str] = (),
    *,
    eval_only: bool = False,
    model_dir: str = "",
    load_epoch: int | None = None,
    verbose: bool = False,
) -> None:
    """One seed of one protocol, stage after stage; what was run in ``fresh`` folders is done."""
    trained = model_dir or cfgs[0].OUTPUT_DIR
    learns = methods()[cfgs[0].TRAINER.NAME].learns
    for number, one in enumerate(cfgs):
        if one.OUTPUT_DIR in fresh:
            continue
        source = None
        if one.DATASET.TRAINED_ON:
            source = source_of(cfgs[0], trained, one.DATASET.TRAINED_ON, one.OUTPUT_DIR, load_epoch)
        done = is_complete(one.OUTPUT_DIR) if source is None else is_tested(one.OUTPUT_DIR, source)
        if done and not eval_only:
            print(f"done already: {one.OUTPUT_DIR}")
            continue
        only = eval_only or (learns and number > 0)  # the first stage trains
        run(one, eval_only=only, model_dir=trained, load_epoch=load_epoch, source=source, verbose=verbose)
