"""Where weights come from by name: some are in the box; published ones are in STRHUB_WEIGHTS, the hub's cache, or
downloaded, and always checked by their hash."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

import torch

from strhub.models.checkpoint import WEIGHTS

logger = logging.getLogger(__name__)

BASE_URL = 'https://github.com/baudm/parseq/releases/download/v1.0.0/'
FOLDER_VARIABLE = 'STRHUB_WEIGHTS'  # a folder with the published files, for machines without a network
BOX = Path(__file__).parents[1] / 'weights'  # models that strhub brings, each a folder as `strhub package` writes it
BOXED = 'pretrained=crnn-small-rendered'  # of them, what is named where no other can be had
INSTEAD = f'{BOXED}, which needs no download'


def in_the_box() -> dict[str, Path]:
    """The models that need no download, as the names of their weights -> their folders."""
    folders = sorted(path.parent for path in BOX.glob(f'*/{WEIGHTS}'))
    return {folder.name: folder for folder in folders if not folder.name.startswith('.')}  # one half-written


def fetch(file: str) -> Path:
    """The path of the published weights `file`, whose name ends in the first digits of its SHA-256.

    They are taken from the folder `STRHUB_WEIGHTS` if it is set, else from the hub's cache, else downloaded into it.

    Raises:
        FileNotFoundError: STRHUB_WEIGHTS is set, but does not hold the file.
        ValueError: the file is damaged.
        ConnectionError: it could not be downloaded.
    """
    if folder := os.environ.get(FOLDER_VARIABLE):
        return _from_folder(Path(folder).expanduser(), file)
    path = Path(torch.hub.get_dir()) / 'checkpoints' / file
    if path.is_file():
        if is_intact(path):
            return path
        logger.warning('%s is damaged: it is removed and downloaded again', path)
        path.unlink(missing_ok=True)
    return _download(file, path)


def is_intact(path: Path) -> bool:
    """Whether the SHA-256 of a file starts with the digits that its name ends in."""
    digest = hashlib.sha256()
    with path.open('rb') as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest().startswith(hash_prefix(path.name))


def hash_prefix(file: str) -> str:
    """`bb5792a6` of `parseq-bb5792a6.pt`."""
    match = re.search(r'-([0-9a-f]{8,64})\.\w+$', file)
    if match is None:
        raise ValueError(f'{file!r} has no hash in its name: published weights are called name-0123abcd.pt')
    return match[1]


def _from_folder(folder: Path, file: str) -> Path:
    path = folder / file
    if not path.is_file():
        raise FileNotFoundError(
            f'{FOLDER_VARIABLE} is {folder}, but there is no {file}: download {BASE_URL}{file} into it, unset it, or '
            f'take {INSTEAD}'
        )
    if not is_intact(path):
        raise ValueError(f'{path} is damaged (its SHA-256 differs from its name): download {BASE_URL}{file} again')
    return path


def _download(file: str, path: Path) -> Path:
    """Downloads beside `path` and renames at the end, so that a damaged file is never found under the right name."""
    url = BASE_URL + file
    by_hand = f'download it by hand to {path}, set {FOLDER_VARIABLE} to a folder that holds it, or take {INSTEAD}'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        logger.info('Downloading %s', url)
        torch.hub.download_url_to_file(url, str(path), hash_prefix(file))
    except HTTPError as error:
        raise ConnectionError(f'{url} could not be downloaded ({error.code} {error.reason}): {by_hand}') from None
    except RuntimeError:  # torch's word for another hash
        raise ValueError(f'{url} arrived damaged or truncated: try again, or {by_hand}') from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, 'reason', error)
        raise ConnectionError(f'{url} could not be downloaded ({reason}): {by_hand}') from None
    return path
