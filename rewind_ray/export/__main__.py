"""``python -m rewind_ray.export``"""

import sys

from rewind_ray.export.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
