"""The neural networks: manifests, generation, the reference engine, weight variants, embedders, judges. The only torch."""
