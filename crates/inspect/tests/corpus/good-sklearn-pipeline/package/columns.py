NUMBERS = ["a", "b", "c", "d"]
