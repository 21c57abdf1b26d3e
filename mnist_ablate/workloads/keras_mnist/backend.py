"""TensorFlow and Keras, set up as every trial needs them; whoever builds or trains a network takes them from here."""

import os

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # by default on with AVX-512 only; without, a convolutional epoch takes 1.5x

import keras
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

__all__ = ["keras", "tf"]
