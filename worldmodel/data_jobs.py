"""What `worldmodel data convert` and `data view` do: (folder, *dataclasses) -> None."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel.files import write_json
from worldmodel.jobs import DataOptions, done
from worldmodel.log import progress

if TYPE_CHECKING:
    from worldmodel.convert_plan import ConvertConfig
    from worldmodel.merge import MergeConfig
    from worldmodel.view import ViewConfig


def run_data_convert(folder: Path, config: ConvertConfig) -> None:
    from worldmodel.convert import convert, read_source
    from worldmodel.view import ViewConfig, view

    source = read_source(config)
    total = min(len(source.takes), config.episodes or len(source.takes))
    with progress("convert", total=total, unit="episodes") as bar:
        summary = convert(config, folder, bar.advance, source)
    write_json(folder / "result.json", {"format": source.format, **summary})
    view(folder, ViewConfig(), folder, notes=summary["notes"])
    for note in summary["notes"]:
        print(f"note: {note}")
    print(f"dataset: {folder}, {summary['episodes']} episodes, {summary['steps']} steps")
    done(folder)


def run_data_merge(folder: Path, config: MergeConfig) -> None:
    from worldmodel.merge import merge

    sources = [Path(source) for source in config.sources]
    with progress("merge", total=len(sources), unit="datasets") as bar:
        summary = merge(sources, folder, lambda _, text: bar.advance(1, text))
    write_json(folder / "result.json", summary)
    print(f"dataset: {folder}, {summary['episodes']} episodes, {summary['steps']} steps")
    done(folder)


def run_data_view(folder: Path, options: DataOptions, config: ViewConfig) -> None:
    from worldmodel.browse import open_library
    from worldmodel.view import view

    total = min(config.show, len(open_library(options.data).rows))
    with progress("view", total=total, unit="episodes") as bar:
        result = view(options.data, config, folder, bar.advance)
    write_json(folder / "result.json", result)
    print(f"{result['episodes']} episodes, {result['frames']} frames at {result['fps']:g} Hz")
    done(folder)
