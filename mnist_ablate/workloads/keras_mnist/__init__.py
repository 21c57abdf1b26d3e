"""The shared Keras builders on MNIST: data, models, trainer. The only room that knows images, networks or Keras."""
