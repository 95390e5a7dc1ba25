from tests.sweeps.conftest import storage as storage
from tests.sweeps.conftest import undisturbed as undisturbed
