"""``python -m rewind_ray.datasets.text``"""

import sys

from rewind_ray.datasets.text.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
