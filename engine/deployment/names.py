"""Names of the inputs and of the output of exported files."""

IMAGES = 'images'
POINT = 'point'
LOGITS = 'logits'
