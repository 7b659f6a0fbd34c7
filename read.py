#!/usr/bin/env python3
"""Reads the words in pictures: `./read.py --help`."""

from strhub.engine.read import main

if __name__ == '__main__':
    main()
