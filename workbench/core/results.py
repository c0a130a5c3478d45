"""All frozen records under one name: ``from workbench.core.results import Direction``.

They are described where they are made: `workbench.core.record` (what all share, rankings), `tables`, `attributions`,
`maps`, `directions`, `edits`.
"""

from workbench.core.attributions import Attribution as Attribution
from workbench.core.attributions import SanityCheck as SanityCheck
from workbench.core.directions import DIRECTION_NUMBERS as DIRECTION_NUMBERS
from workbench.core.directions import SENSITIVITY_NUMBERS as SENSITIVITY_NUMBERS
from workbench.core.directions import ConceptSensitivity as ConceptSensitivity
from workbench.core.directions import Direction as Direction
from workbench.core.directions import DirectionSet as DirectionSet
from workbench.core.edits import Edit as Edit
from workbench.core.maps import Atlas as Atlas
from workbench.core.maps import PointMap as PointMap
from workbench.core.record import Ranking as Ranking
from workbench.core.record import Result as Result
from workbench.core.tables import ActivationTable as ActivationTable
from workbench.core.tables import ReferenceSet as ReferenceSet

__all__: list[str] = []
