#!/usr/bin/env python3
"""Reads the words in pictures: `./read.py --help`."""

from strhub.__main__ import run

if __name__ == '__main__':
    run('read')
