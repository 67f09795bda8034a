"""How many images a split needs for a number to say something about other images."""

FEWEST_IMAGES = 10  # of an interval: fewer say too little about other images
