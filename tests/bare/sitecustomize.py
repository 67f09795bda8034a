"""On PYTHONPATH, this leaves every process torch, transformers, Pillow and what these import, and no other package.

Python runs it at the start of every process.
"""

import sys
from importlib.machinery import PathFinder

LEFT = {
    *("torch", "functorch", "torchgen", "triton", "numpy", "sympy", "mpmath", "networkx", "jinja2", "markupsafe"),
    *("transformers", "tokenizers", "safetensors", "huggingface_hub", "hf_xet", "regex", "yaml", "PIL"),
    *("filelock", "fsspec", "packaging", "tqdm", "typing_extensions", "typer", "click", "rich", "pygments"),
    *("httpx", "httpx2", "httpcore", "httpcore2", "h11", "anyio", "idna", "certifi", "sniffio", "truststore"),
    *("requests", "urllib3", "charset_normalizer", "setuptools", "pkg_resources", "shellingham", "annotated_doc"),
}


class OnlyTheseFinder(PathFinder):
    """Finds what Python does, but for other packages that are installed."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        found = PathFinder.find_spec(fullname, path, target)
        places = [found.origin or "", *(found.submodule_search_locations or ())] if found else []
        installed = any("site-packages" in place for place in places)
        return None if installed and fullname.partition(".")[0] not in LEFT else found


sys.meta_path[sys.meta_path.index(PathFinder)] = OnlyTheseFinder
