"""An ordinary Keras network for Fashion-MNIST, with augmentation layers. The sweep file beside it asks about it."""

import keras
from keras import layers


def small_cnn(settings, input_shape, classes):
    """Two convolutions with augmentation; batch norm, dropout, both or neither."""

    def block(x, filters):
        batch_norm = settings["norm_layer"] == "batch_norm"
        x = layers.Conv2D(filters, 3, use_bias=not batch_norm)(x)
        if batch_norm:
            x = layers.BatchNormalization()(x)
        return layers.MaxPooling2D()(layers.ReLU()(x))

    images = keras.Input(input_shape)
    x = layers.RandomFlip("horizontal")(images)
    x = layers.RandomTranslation(0.05, 0.05)(x)
    x = layers.Flatten()(block(block(x, 16), 32))
    x = layers.Dense(settings["width"], activation=settings["activation"])(x)
    x = layers.Dropout(settings["dropout"])(x)
    return keras.Model(images, layers.Dense(classes, activation="softmax")(x))


MODELS = {"small_cnn": small_cnn}
