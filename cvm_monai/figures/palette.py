"""All colours, line widths and sizes of the figures.

Hues are those of Okabe and Ito (2008), distinguishable with any colour vision; adjacent elements also differ in
lightness or shape.
"""

INK = "#222222"
MUTED = "#767676"
FAINT = "#d9d9d9"
TILE = "#eeeeee"

BLUE, SKY, GREEN = "#0072b2", "#56b4e9", "#009e73"
YELLOW, ORANGE, VERMILION, PURPLE = "#f0e442", "#e69f00", "#d55e00", "#cc79a7"

TARGET_POINT, BACKGROUND_POINT = YELLOW, BLUE
TRUTH_OUTLINE, PREDICTION_OUTLINE, IGNORED_OUTLINE = INK, BLUE, MUTED
TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = SKY, VERMILION, YELLOW
HEAT_MAP = "viridis"
IGNORED_PIXELS = "#b3b3b3"

LINES = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY)

DPI = 200
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 9, 8, 7
