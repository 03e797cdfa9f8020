"""Reports: HTML files that open offline, made from the files in workdirs alone.

    path = report.write(workdir)                        # one study: workdir/report/index.html
    path = report.write_comparison(workdirs, output)    # several studies side by side: output/index.html
    path = report.write_speedup(speedup, output)        # two recipes on one ladder: output/index.html

The figures are also saved beside the page, as figures/*.png.
"""

from typing import TYPE_CHECKING

from scaling.faces import lazy

if TYPE_CHECKING:
    from scaling.report.comparison import write_comparison
    from scaling.report.speedup_page import write_speedup
    from scaling.report.study_page import write
    from scaling.report.tuning import edge_sentences, fate_sentence

__getattr__, __dir__ = lazy(__name__)
__all__ = ["edge_sentences", "fate_sentence", "write", "write_comparison", "write_speedup"]
