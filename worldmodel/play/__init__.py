"""Driving the robot inside the model, beside the simulator, in a browser."""
