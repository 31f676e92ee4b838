"""The neural networks: manifests, generation, the reference engine, variants, embedders, judges. The only torch."""
