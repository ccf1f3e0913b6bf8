"""`robustgen cache`: the finished work that runs share."""

from typing import Annotated

import typer

from robustgen.errors import RequestError


def cache_command(
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read every entry and remove the damaged."),
    ] = False,
    trim: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Remove the least recently used, down to e.g. 500MB."
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove every entry.")] = False,
) -> None:
    """Shows, checks or empties the cache of finished work that runs share."""
    from robustgen import cache as store

    if sum((verify, trim is not None, clear)) > 1:
        raise RequestError("Name one of --verify, --trim and --clear.")
    cache = store.default_cache()
    if verify:
        entries = store.usage(cache).entries
        damaged = store.verify(cache)
        for path, reason in damaged:
            typer.echo(f"{path}: damaged ({reason}); removed.")
        typer.echo(f"{entries} entries read, {len(damaged)} damaged.")
        return
    if clear or trim is not None:
        size = 0 if trim is None else store.parse_size(trim)
        gone = store.clear(cache) if clear else store.trim(cache, size)
        typer.echo(f"Removed {_share(gone.entries, store.size_text(gone.bytes))}.")
        return
    held = store.usage(cache)
    lines = [("folder", str(cache.folder))]
    for kind, share in held.kinds.items():
        lines.append((kind, _share(share.entries, store.size_text(share.bytes))))
    lines.append(("all", _share(held.entries, store.size_text(held.bytes))))
    lines.append(("cap", store.size_text(cache.cap_bytes)))
    if held.oldest and held.newest:
        used = (f"{moment:%Y-%m-%d %H:%M}" for moment in (held.oldest, held.newest))
        lines.append(("last used", " to ".join(used) + " UTC"))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        typer.echo(f"{name:{width}}  {text}")


def _share(entries: int, size: str) -> str:
    return f"{entries} {'entry' if entries == 1 else 'entries'}, {size}"
