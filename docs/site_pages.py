"""A hook for mkdocs: each file outside docs/ that a page links to gets a page in the site.

On GitHub the links work as they are. In the site, `../recipes/README.md` becomes `repository/recipes/README.md`. Other
text files are shown as code and folders as a list of their files; JSON files and pictures are copied.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a test reads this module where mkdocs is not installed
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
#: A link of Markdown, or an attribute of HTML that names a file.
LINK = re.compile(r"""(\]\(|(?:src|srcset)=")(?!https?:|mailto:|#)([^)"#\s]+)""")
FENCE = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
COPIED = {".json", ".png"}
LANGUAGE = {".py": "python", ".yaml": "yaml"}


def in_site(path: str) -> str:
    """Return where a file of the repository lies in the site's sources.

    >>> in_site("docs/text.md"), in_site("recipes/README.md"), in_site("mlm_recipes/masking/random_keys.py")
    ('text.md', 'repository/recipes/README.md', 'repository/mlm_recipes/masking/random_keys.py.md')
    """
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    suffix = posixpath.splitext(path)[1]
    return f"repository/{path}" if suffix in {".md", *COPIED} else f"repository/{path}.md"


def rewrite(text: str, page: str) -> tuple[str, set[str]]:
    """Return Markdown with its links as they are in the site, and the repository files outside docs/ that it links to.

    `page` is the file's own path in the repository. Code blocks are left alone.

    >>> rewrite("[a](../LICENSE), [b](text.md#size)", "docs/report.md")
    ('[a](repository/LICENSE.md), [b](text.md#size)', {'LICENSE'})
    """
    outside: set[str] = set()

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), match[2]))
        if not (ROOT / target).exists():
            return match[0]  # mkdocs reports it
        if not target.startswith("docs/"):
            outside.add(target)
        return match[1] + posixpath.relpath(in_site(target), posixpath.dirname(in_site(page)))

    pieces, end = [], 0
    for fence in FENCE.finditer(text):
        pieces += [LINK.sub(link, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, LINK.sub(link, text[end:])]), outside


def content(path: str) -> tuple[str, set[str]]:
    """Return the Markdown of the page for a file or a folder outside docs/, and what that page links to."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(each.name for each in file.iterdir() if each.is_file())
        links = [f"- [{name}]({posixpath.basename(path)}/{name})" for name in names]
        return rewrite("\n".join([f"# {path}", "", *links]), path)
    text = file.read_text("utf-8")
    if file.suffix == ".md":
        return rewrite(text, path)
    return f"# {path}\n\n~~~~{LANGUAGE.get(file.suffix, 'text')}\n{text}\n~~~~\n", set()


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each file that can be reached by links from docs/."""
    from mkdocs.structure.files import File, InclusionLevel

    wanted: set[str] = set()
    for page in files.documentation_pages():
        wanted |= rewrite(page.content_string, f"docs/{page.src_uri}")[1]
    done: set[str] = set()
    while wanted - done:
        path = min(wanted - done)
        done.add(path)
        if Path(path).suffix in COPIED:
            files.append(File.generated(config, in_site(path), abs_src_path=str(ROOT / path)))
            continue
        text, links = content(path)
        wanted |= links
        files.append(File.generated(config, in_site(path), content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of the pages in docs/; those of the others were rewritten when the pages were made."""
    if page.file.src_uri.startswith("repository/"):
        return markdown
    return rewrite(markdown, f"docs/{page.file.src_uri}")[0]
