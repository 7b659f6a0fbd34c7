"""Systems on Hugging Face's hub: the methods of its `PyTorchModelHubMixin`, for folders that strhub checks.

They are not inherited from there: that mixin is seconds to import, takes what fits of any file, and keeps the arguments
of a system that knows them itself. The folders are the same, for a class that mixes it in, too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, TypeVar, cast

from strhub.models.checkpoint import CONFIG, WEIGHTS
from strhub.models.reader import Recogniser

T = TypeVar('T', bound='Shared')


class Shared:
    """What makes a system shareable."""

    @classmethod
    def from_pretrained(
        cls: type[T],
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **overrides: Any,
    ) -> T:
        """Loads a model for reading, i.e. in evaluation mode.

        Args:
            source: a folder of `strhub package`, or anything else that `load_from_checkpoint` takes; a name like
                `owner/model` that is no path here is downloaded from the hub.
            revision, token, cache_dir, force_download, local_files_only: of that download.
            **overrides: hyper-parameters to change.

        Raises:
            ValueError: the files are damaged, or of another class of model.
        """
        from strhub.models.zoo import as_source, load_from_checkpoint, published_name

        path = source = as_source(source)
        if not Path(source).exists() and published_name(source) is None:
            from huggingface_hub import snapshot_download

            path = snapshot_download(
                str(source),
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                allow_patterns=[WEIGHTS, CONFIG],
            )
        system = load_from_checkpoint(path, **overrides)
        if not isinstance(system, cls):
            raise ValueError(f'{source} holds the model {system.hparams["name"]}, which is no {cls.__name__}')
        return cast(T, system.eval())

    def save_pretrained(self, folder: str | Path, *, licence: str = 'unknown', overwrite: bool = False) -> None:
        """Writes weights, hyper-parameters and a card without an evaluation; `strhub package` writes a fuller one."""
        from strhub.models.card import model_card
        from strhub.models.folder import save_folder

        system = cast(Recogniser, self)
        save_folder(system, folder, card=model_card(dict(system.hparams), licence=licence), overwrite=overwrite)

    def push_to_hub(
        self, repo_id: str, *, licence: str = 'unknown', private: bool | None = None, token: str | None = None
    ) -> str:
        """Uploads what `save_pretrained` writes to the repository `owner/model`; returns its address."""
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent, 'model')
            self.save_pretrained(folder, licence=licence)
            repo = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo.repo_id, folder_path=folder, commit_message='A model of strhub')
        return str(repo)
