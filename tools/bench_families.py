"""How fast every family trains and compiles on this machine, beside the same network in plain torch, at two sizes.

    python -m tools.bench_families
    python -m tools.bench_families --sizes='recurrent/*' --seconds=10 --output=families.json

It is `tools.bench --parts=rates --modes=single` on a case of each family and size, and takes the flags of that command. For
each case it prints steps a second, the ratio to torch (more than 1 says that the package is faster), the share of the
machine's matrix products, and the seconds that the package compiles. Torch's eager mode compiles nothing.
"""

import sys

from tools import _bench_cases as cases
from tools import bench

USUAL = ("--parts=rates", "--modes=single", "--peers=torch", "--seconds=6", "--repeats=3",
         "--sizes=" + ",".join(case.name for case in (*cases.MEMBERS, *cases.OTHER_IMAGES,
                                                      *(c for c in cases.IMAGES if c.size > 2e4))))


def main(argv=None):
    given = sys.argv[1:] if argv is None else argv
    named = {flag.partition("=")[0] for flag in given}
    bench.main([*(flag for flag in USUAL if flag.partition("=")[0] not in named), *given])


if __name__ == "__main__":
    main()
