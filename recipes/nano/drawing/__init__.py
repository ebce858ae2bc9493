"""Training of nano's image generator: text encoder, autoencoder and diffusion model."""

__all__: list[str] = []
