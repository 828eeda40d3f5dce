"""Names of the inputs and outputs of exported files."""

IMAGES = 'images'
POINT = 'point'
THRESHOLDS = 'thresholds'
LOGITS = 'logits'
EXECUTED = 'executed'
