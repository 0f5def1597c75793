"""Cityscapes source ids, as in the labelIds files."""

# Void ids, which are never trained on and never scored.
EGO, OUT_OF_ROI, STATIC, DYNAMIC, PARKING, RAIL_TRACK = 1, 3, 4, 5, 9, 10
# The classes.
ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN = 7, 8, 11, 12, 13, 17, 19, 20
VEGETATION, TERRAIN, SKY, PERSON, RIDER, CAR, TRUCK, BUS = range(21, 29)
TRAIN, MOTORCYCLE, BICYCLE = 31, 32, 33
INSTANCE_CLASSES = (PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE)
