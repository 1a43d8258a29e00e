"""Hook of `mkdocs build`: the Markdown that is read on a forge is the site as well, README.md its first page.

Pages lie in docs/ and link to files anywhere in the repository.  Those files become part of the site, so that a link
leads to the same thing in both places, and none leaves the site.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
FRONT = "README.md"
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")


def site_path(path: str) -> str:
    """Where a file of the repository is in the site's sources."""
    return "index.md" if path == FRONT else path.removeprefix("docs/")


def targets(path: str, text: str) -> dict[str, str]:
    """The links in the text of a Markdown file -> the files of the repository that they lead to."""
    links = {link: posixpath.normpath(posixpath.join(posixpath.dirname(path), link)) for link in LINK.findall(text)}
    return {link: target for link, target in links.items() if (ROOT / target).is_file()}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages on top of the repository and, as far as links reach, what else lies outside docs/."""
    ours = {f"docs/{file.src_uri}" for file in files}
    waiting = [path.name for path in ROOT.glob("*.md")] + [path for path in ours if path.endswith(".md")]
    for path in waiting:  # which grows
        if path not in ours:
            ours.add(path)
            files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            waiting += [one for one in targets(path, (ROOT / path).read_text()).values() if one not in waiting]
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between those of the site."""
    here = page.file.src_uri
    path = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()
    new = {
        link: posixpath.relpath(site_path(target), posixpath.dirname(here) or ".")
        for link, target in targets(path, markdown).items()
    }
    return LINK.sub(lambda found: new.get(found[0], found[0]), markdown)
