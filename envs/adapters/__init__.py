"""Other people's tasks: each as its own package gives it, with an expert, names, and success.

Nothing of a suite is imported before an env of it is made.
"""
