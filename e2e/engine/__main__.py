"""`python -m e2e.engine build vllm-omni|standin`: makes an engine image and prints its name."""

import argparse

from e2e.engine import build


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="make an image if it is missing")
    command.add_argument("image", choices=sorted(build.IMAGES))
    command.add_argument("--print-tag", action="store_true", help="only print the image's name, make nothing")
    args = parser.parse_args()
    print(build.tag(args.image) if args.print_tag else build.ensure(args.image))


if __name__ == "__main__":
    main()
