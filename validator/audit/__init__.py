"""`quiver audit`: whether an endpoint serves the model that it names, from its answers, with an error probability."""
