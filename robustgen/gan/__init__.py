"""StyleGAN2: the generator, its encoder, and the file formats of both."""
