"""Checkpoints on the Hugging Face Hub: `user/name`, or `user/name@revision`.

Only the files named here are ever read or written there. Nothing waits longer than TIMEOUT for a
Hub that does not answer; what was downloaded before is used then.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from pathlib import Path

from worldmodel.errors import RunError, UserError

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
TIMEOUT = 10.0  # s until a Hub that says nothing counts as out of reach

_PART = r"[A-Za-z0-9](?:[\w.-]*\w)?"
_NAME = re.compile(rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[\w./-]+))?")


def parse(name: str) -> tuple[str, str | None] | None:
    """Repository and revision where ``name`` has the form of a Hub id, else None."""
    match = _NAME.fullmatch(name)
    return (match["repo"], match["revision"]) if match else None


def download(name: str) -> Path:
    """The local folder of the checkpoint that ``name`` means; only what has changed is fetched.

    Raises UserError where there is no such repository, revision or checkpoint in it, RunError where
    the Hub is out of reach and no copy is there.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    found = parse(name)
    if found is None:
        raise UserError(f"'{name}': expected user/name or user/name@revision, as on the Hub")
    repo, revision = found
    neither = f"'{name}' is neither an existing path nor a shipped checkpoint"
    try:
        reach(repo, revision)
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=[CONFIG, WEIGHTS], etag_timeout=TIMEOUT
        )
    except GatedRepoError as error:
        raise UserError(
            f"{name} is gated: ask for access on its page of the Hugging Face Hub, then log in: "
            "hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(
            f"{repo} on the Hugging Face Hub has no revision '{revision}'; "
            "expected a branch, a tag or a commit of it"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"{neither}, and the Hugging Face Hub has no model {repo} that you may see; "
            "check the name, or log in where it is private: hf auth login"
        ) from error
    except (RunError, HfHubHTTPError, OSError) as error:
        folder = _kept(repo, revision)
        if folder is None:
            raise RunError(
                f"{neither}, and it was not downloaded from the Hugging Face Hub before, which is "
                f"out of reach ({_first_line(error)}). Name a folder that exists, or go online "
                "and unset HF_HUB_OFFLINE"
            ) from error
        warnings.warn(
            f"the Hugging Face Hub is out of reach ({_first_line(error)}); "
            f"{name} is the copy in {folder}",
            stacklevel=2,
        )
    if not (Path(folder) / WEIGHTS).exists():
        raise UserError(
            f"{name} on the Hugging Face Hub has no {WEIGHTS}: not one of our checkpoints; "
            "name one that `worldmodel push` has made"
        )
    return Path(folder)


def upload(folder: Path, card: str, repo: str, private: bool, revision: str | None) -> str:
    """Put a checkpoint's weights, its config and ``card`` there, in one commit; returns its
    address. The repository is made where there is none, ``private`` or not, and so is a branch
    ``revision``.

    Raises UserError where that is not allowed, RunError where the Hub is out of reach.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if parse(repo) is None or "@" in repo:
        raise UserError(f"repo: got '{repo}', expected user/name; a branch of it is revision=…")
    if get_token() is None:
        raise UserError(
            "not logged in to the Hugging Face Hub; expected a token that may write: "
            "hf auth login, or set HF_TOKEN"
        )
    contents = {CONFIG: folder / CONFIG, WEIGHTS: folder / WEIGHTS, CARD: card.encode()}
    files = [CommitOperationAdd(name, content) for name, content in contents.items()]
    try:
        with contextlib.suppress(RepositoryNotFoundError):  # it is made now
            reach(repo, None)
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        message = f"Upload {folder.name} with worldmodel"
        done = api.create_commit(repo, files, commit_message=message, revision=revision)
    except HFValidationError as error:
        raise UserError(f"repo: got '{repo}', expected user/name: {error}") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403, 404):
            raise UserError(
                f"the Hugging Face Hub does not let you write to {repo} ({_first_line(error)}); "
                "expected a name of your own or your organisation's, and a token that may write: "
                "hf auth login"
            ) from error
        raise RunError(f"the Hugging Face Hub refused the upload: {error}; try again") from error
    return str(done.commit_url)


def reach(repo: str, revision: str | None) -> None:
    """RunError where the Hub does not answer; what it says against ``repo`` is raised as it is.

    Without this the client would wait for minutes in places where it has no timeout.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().model_info(repo, revision=revision, timeout=TIMEOUT)
    except (HfHubHTTPError, HFValidationError):
        raise
    except Exception as error:  # each major version of the client has another HTTP library's
        raise RunError(
            f"the Hugging Face Hub is out of reach ({_first_line(error)}); go online and unset "
            "HF_HUB_OFFLINE"
        ) from error


def _kept(repo: str, revision: str | None) -> str | None:
    """The folder of an earlier download, if it is whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return snapshot_download(
            repo, revision=revision, allow_patterns=[CONFIG, WEIGHTS], local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None


def _first_line(error: BaseException) -> str:
    """The cause in a few words."""
    cause = error.__cause__ if isinstance(error, RunError) and error.__cause__ else error
    return f"{type(cause).__name__}: {cause}".splitlines()[0].rstrip(".")
