"""The settings of this workload: what can be chosen for a training run; trains nothing."""

from collections.abc import Container

from pydantic import BaseModel, ConfigDict, Field

from mnist_ablate.trial import Trial

TRAINER_VERSION = 4  # part of every trial id: raised when the same trial would give other numbers


class Recipe(BaseModel):
    """Every setting of one training run. Only here do their defaults stand."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(default="mlp", description="The network.")
    activation: str = Field(default="relu", description="The activation of hidden layers.")
    normalizer: str = Field(default="unit", description="What is done to the pixels, 0 to 255.")
    optimizer: str = Field(default="adam", description="The optimizer.")
    learning_rate: float = Field(
        default=0.0, ge=0.0, le=1e3, description="The learning rate; 0 stands for the optimizer's default."
    )
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0, description="The fraction of hidden units dropped.")
    norm_layer: str = Field(default="none", description="The layer between a hidden layer and its activation.")
    initializer: str = Field(default="glorot_uniform", description="How kernels are drawn.")
    weights: str = Field(default="imagenet", description="The weights of a frozen base; a model without one has none.")
    width: int = Field(default=500, ge=1, le=8192, description="Units of a hidden layer.")
    batch_size: int = Field(default=128, ge=1, le=42_000, description="Images per step.")
    epochs: int = Field(default=5, ge=1, le=10_000, description="Passes over the 42,000 training images.")
    depth: int = Field(default=1, ge=1, le=20, description="Hidden layers of model mlp, each with its dropout.")
    momentum: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Of sgd, article_sgd and rmsprop; 0 stands for the optimizer's own."
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Decoupled: each step takes this times the learning rate of each weight; 0: the optimizer's own.",
    )
    schedule: str = Field(default="constant", description="How the learning rate changes while it is trained.")
    label_smoothing: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="The share of a training label that goes to all classes alike."
    )
    augmentation: str = Field(default="none", description="How training images are altered, in each epoch anew.")
    train_fraction: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="The share of training images; at a seed the smaller is in the larger.",
    )
    class_imbalance: float = Field(
        default=1.0, ge=1.0, le=10_000, description="How often the most frequent class is there for each of the rarest."
    )
    label_noise: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="The share of training images that get the label of another class."
    )
    size_matched: bool = Field(
        default=False,
        description="A control: as many images removed at random, in place of class_imbalance and label_noise.",
    )


OF_TRAINING_IMAGES = ("augmentation", "train_fraction", "class_imbalance", "label_noise", "size_matched")
"""The settings that change the images which are trained on, and no program."""


def recipe_of(trial: Trial) -> Recipe:
    """The settings of a trial of this workload, with their types."""
    return Recipe.model_validate(trial.settings)


_USUAL = Recipe()


def program_key(recipe: Recipe, own_models: Container[str] = ()) -> Recipe:
    """The recipe without what does not change the program. Recipes with equal keys share one.

    `own_models` are models of users' own.
    """
    images = {name: getattr(_USUAL, name) for name in OF_TRAINING_IMAGES}
    same = {"normalizer": "", "learning_rate": 0.0, "epochs": 1, **images}
    if recipe.model not in own_models:  # such a function may read all else
        same |= {"initializer": "", "weights": "", "dropout": 0.5 if recipe.dropout else 0.0}
        same |= {name: 0.1 for name in ("weight_decay", "label_smoothing") if getattr(recipe, name)}
        same["schedule"] = "constant" if recipe.schedule == "constant" else "step"  # the rates come from outside
    return recipe.model_copy(update=same)
