OUTPUT = "score"
