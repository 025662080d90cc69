"""What threadpoolctl, which scikit-learn and joblib limit threads with, has to know about chainrule."""

from pathlib import Path

import threadpoolctl

from chainrule import _core
from chainrule.threads import get_num_threads, set_num_threads


class _ThreadPool(threadpoolctl.LibController):  # type: ignore[misc]  # it has no stubs
    """The threads that all networks of this process share."""

    user_api = "chainrule"
    internal_api = "chainrule"
    filename_prefixes = (Path(_core.__file__).name,)
    check_symbols = ("chainrule_num_threads",)  # other packages have a _core too

    def get_num_threads(self) -> int:
        return get_num_threads()

    def set_num_threads(self, num_threads: int) -> None:
        set_num_threads(num_threads)

    def get_version(self) -> str:
        return str(_core.config()["version"])


threadpoolctl.register(_ThreadPool)
