"""All mutations."""

from tests.mutations.compression import COMPRESSION
from tests.mutations.elections import ELECTIONS
from tests.mutations.members import MEMBERS
from tests.mutations.models import MODELS
from tests.mutations.replication import REPLICATION
from tests.mutations.secrecy import SECRECY
from tests.mutations.shells import SHELLS

MUTATIONS = (*ELECTIONS, *REPLICATION, *MEMBERS, *SHELLS, *SECRECY, *COMPRESSION, *MODELS)
