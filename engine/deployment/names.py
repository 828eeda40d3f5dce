"""Names of the inputs and outputs of exported files."""

IMAGES = 'images'
POINT = 'point'
THRESHOLDS = 'thresholds'
LOGITS = 'logits'
EXECUTED = 'executed'

# Of the choice that says which stage of a cascade, or which exit of a network, answered.
STAGE = 'stage'
EXIT = 'exit'
