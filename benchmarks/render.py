#!/usr/bin/env python3
"""How many words one core renders in a second: python benchmarks/render.py [--count N]"""

import argparse
import time

from strhub.data.synth import render_word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=5000, metavar='N', help='words per measurement (default: 5000)')
    count = parser.parse_args().count
    for index in range(count // 2):  # fonts are opened and glyphs rasterised when first used
        render_word(1, index)
    for difficulty in (0.0, 0.5, 1.0):
        clock, processor = time.perf_counter(), time.process_time()
        for index in range(count):
            render_word(0, index, difficulty=difficulty)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        # on a machine with other work the second number is the one to compare
        print(
            f'difficulty {difficulty}: {count / clock:.0f} words/s, {count / processor:.0f} words/s of processor time'
        )


if __name__ == '__main__':
    main()
