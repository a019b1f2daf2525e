"""Options of the commands that make runs, which are settings or choose what is tagged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tagmill.producer.sources.options import SourceOptions

WorkflowId = Annotated[str | None, typer.Option(help="The Workflow that tags, by its id.")]
TaskName = Annotated[str | None, typer.Option(help="Its task whose tags count; else the first that has any.")]
WriteBack = Annotated[
    str | None, typer.Option(help="metadata, tags, annotation, sidecar or none; several with commas.")
]
SidecarPrefix = Annotated[
    str | None, typer.Option(help="prefix/ or s3://bucket/prefix for sidecars of S3 images.")
]
Probe = Annotated[str | None, typer.Option(help="auto or off: try out what the bucket's server does.")]
AllowNewVersions = Annotated[
    bool | None, typer.Option("--allow-new-versions", help="The write-back may add object versions.")
]
AllowCopyEvents = Annotated[
    bool | None, typer.Option("--allow-copy-events", help="It may fire ObjectCreated:Copy events.")
]
Transfer = Annotated[str | None, typer.Option(help="auto or upload: how images reach the service.")]
KeepUploads = Annotated[
    bool | None, typer.Option("--keep-uploads", help="Leave uploaded images at the service.")
]
Policy = Annotated[str | None, typer.Option(help="File that says which tags are kept, under what names.")]
Pipeline = Annotated[str | None, typer.Option(help="File of the tasks that each image is asked for.")]
PricePer1000 = Annotated[str | None, typer.Option(help="What 1,000 calls cost.")]
Include = Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Only names that match this glob.")]
Exclude = Annotated[list[str] | None, typer.Option(metavar="GLOB", help="No names that match this glob.")]
Extension = Annotated[
    list[str] | None, typer.Option(metavar="EXT", help="File name extensions; `*` for any.")
]
AllVersions = Annotated[
    bool, typer.Option("--all-versions", help="Every version of each S3 object, not only the latest.")
]
MinSize = Annotated[str | None, typer.Option(help="Such as 10KB.")]
MaxSize = Annotated[str | None, typer.Option(help="Such as 20MB.")]


def selection_of(options: Mapping[str, Any]) -> SourceOptions:
    """Return what a command's options, which have the names of its fields, say of SOURCE."""
    from tagmill.producer.sources.options import SourceOptions  # noqa: PLC0415 - `--help` need not pay for it

    fields = SourceOptions.__dataclass_fields__.keys() & options.keys()
    said: dict[str, Any] = {name: options[name] for name in fields}
    said |= {name: tuple(options[name] or ()) for name in ("include", "exclude")}
    return SourceOptions(**said, extensions=tuple(options["extension"] or ()))
