"""Does a language model represent desperation, when does it fire, and does suppressing it lower blackmail?"""
