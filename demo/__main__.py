"""A page in the browser: drop an image, see what a trained run says of it.

    python -m demo RUN                                   # http://127.0.0.1:7860, for this machine alone
    python -m demo RUN --calibrate labelled/             # calibrated probabilities and prediction sets
    python -m demo RUN --samples images/ --root data     # images to try; where the run's own data lie now

RUN is a trained run's folder, or hf://ORG/NAME. A calibration beside the folder (predict.py --calibrate) is taken;
nothing is written there. Needs Gradio: pip install gradio. Research use only: not a medical device.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from entry import program
from runs.arguments import add_run_arguments, require_used, run_place

LOCAL = ("127.0.0.1", "localhost", "::1")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=run_place, help="folder of a trained run, or hf://ORG/NAME")
    parser.add_argument("--calibrate", type=Path, metavar="LABELLED", help="labelled images, in place of RUN/calibration.json")
    parser.add_argument("--part", default="", choices=("train", "val", "test"), help="of LABELLED, where it has such parts")
    parser.add_argument(
        "--data", nargs="+", default=(), metavar="KEY VALUE", help="keys of DATASET that say how to read LABELLED"
    )
    parser.add_argument("--coverage", type=float, default=0.9, help="of the sets, until another is chosen (0.9)")
    parser.add_argument(
        "--samples", type=Path, metavar="FOLDER", help="images to choose from; by default the run's test images"
    )
    parser.add_argument("--root", default="", help="folder of the datasets, if not where it was in training")
    parser.add_argument("--no-data", action="store_true", help="do not look for the run's training and test images")
    parser.add_argument("--host", default=LOCAL[0], help="address to answer on; another one lets others in, without a password")
    parser.add_argument("--port", type=int, default=7860)
    add_run_arguments(parser)
    return parser.parse_args(argv)


def require_free(host: str, port: int) -> None:
    """Whether the address can be answered on, before a model is loaded.

    Raises:
        UserError: the port is taken, or the host is none of this machine's.
    """
    from dassl.utils import UserError

    if not 0 < port < 65536:
        raise UserError(f"--port is {port}, must be between 1 and 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(found[0][0], socket.SOCK_STREAM) as place:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind(found[0][4])
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be answered on ({error.strerror or error}): another --port, or --host"
        ) from error


def show(args: argparse.Namespace) -> int:
    """Load everything, open the page, answer until the end."""
    from dassl.utils import UserError
    from demo import page, references
    from demo.reader import Reader
    from runs.calibration import FILE, check_coverage, read_calibration
    from runs.inference import find_images, load_run, require_run
    from runs.labelled import fitted

    require_used(args, part=("calibrate",), data=("calibrate",))
    require_run(args.run)
    check_coverage(args.coverage)
    with page.with_scratch():
        page.gradio()  # told before anything is loaded
        require_free(args.host, args.port)
        found = [references.Sample(path) for path in find_images([args.samples])] if args.samples else []
        trainer = load_run(
            args.run, epoch=args.epoch, backbone_path=args.backbone_path, device=args.device, classnames=args.classnames
        )
        kept = None
        if args.calibrate:
            kept, _ = fitted(trainer, args.calibrate, args.data, args.part, args.coverage)
        elif isinstance(args.run, Path) and (args.run / FILE).exists():
            kept = read_calibration(args.run, trainer)
        data = "not looked for (--no-data)" if args.no_data else references.data_of(trainer, args.root)
        found = found or references.samples(data, trainer.classnames)
        reader = Reader(trainer, kept, references.sentences(trainer), references.training_images(trainer, data))
        for note in (reader.calibration_note(), reader.sentences.note, reader.images.note):
            print(note, file=sys.stderr)
        if args.host not in LOCAL:
            print(f"warning: whoever reaches {args.host} can use this page, without a password", file=sys.stderr)
        try:
            page.serve(page.page(reader, found, args.coverage), args.host, args.port)
        except OSError as error:
            raise UserError(f"{args.host}:{args.port} cannot be answered on: {error}") from error
    return 0


@program
def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 ended by Ctrl-C, 2 a user's mistake (told in one line on standard error)."""
    return show(parse_arguments(argv))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
