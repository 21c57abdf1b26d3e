"""Does scaling the inputs help? An MLP and a random forest on scikit-learn's digits (1,797 images, 8 x 8)."""

from typing import Literal

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

IMAGES, LABELS = load_digits(return_X_y=True)


def train(seed: int, model: Literal["mlp", "forest"] = "mlp", scale: bool = False) -> dict[str, float]:
    """Train once, on a split that the seed draws, and give the accuracy on the other quarter of the images."""
    x_train, x_test, y_train, y_test = train_test_split(IMAGES, LABELS, test_size=0.25, random_state=seed)
    if model == "mlp":
        classifier = MLPClassifier((32,), max_iter=20, random_state=seed)
    else:
        classifier = RandomForestClassifier(30, random_state=seed)
    pipeline = make_pipeline(StandardScaler(), classifier) if scale else classifier
    return {"test_accuracy": pipeline.fit(x_train, y_train).score(x_test, y_test)}
