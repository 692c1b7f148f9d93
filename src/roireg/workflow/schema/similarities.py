"""Types of fields that name a similarity."""

from roireg.metrics.registry import SIMILARITIES
from roireg.register.registry import BUILTIN
from roireg.workflow.schema.section import one_of

Similarity = one_of(SIMILARITIES)
SimilarityOrBuiltin = one_of([*SIMILARITIES, BUILTIN])
SimilarityOrNone = one_of([*SIMILARITIES, "none"])
