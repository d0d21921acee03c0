"""scikit-learn with the backend "onecopy": the same numbers as with one job."""

import joblib
import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import onecopy.joblib  # noqa: F401 - registers it

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of scikit-learn's own code

rng = np.random.default_rng(0)
X = rng.normal(size=(7000, 20))  # above the megabyte from which arrays are shared
y = (X[:, 0] + X[:, 1] ** 2 > 1).astype(int)


def grid(estimator, rows=600, **parameters):
    def fit(n_jobs):
        found = GridSearchCV(estimator, parameters, cv=2, n_jobs=n_jobs).fit(X[:rows], y[:rows])
        return found.cv_results_["mean_test_score"], found.predict(X)

    return fit


def forest(n_jobs):
    model = RandomForestClassifier(8, max_depth=6, random_state=0, n_jobs=n_jobs).fit(X, y)
    first = model.predict_proba(X)
    model.set_params(n_estimators=12, warm_start=True).fit(X, y)
    return first, model.feature_importances_, model.predict_proba(X)


def learning_on(estimator):
    """Fit in workers, and continue to learn here, in place."""

    def fit(n_jobs):
        done = cross_validate(estimator, X, y, cv=2, n_jobs=n_jobs, return_estimator=True)
        for model in done["estimator"]:
            model.partial_fit(X[:500], y[:500])
        return [model.predict(X) for model in done["estimator"]]

    return fit


CASES = {
    "svc": grid(SVC(), C=[0.1, 1]),
    "logistic": grid(LogisticRegression(), rows=7000, C=[0.1, 1]),
    "forest in a grid": grid(RandomForestClassifier(5, random_state=0), max_depth=[2, 4]),
    "boosting": grid(HistGradientBoostingClassifier(max_iter=5), max_depth=[2, 4]),
    "pipeline": grid(make_pipeline(StandardScaler(), SVC()), svc__C=[0.1, 1]),
    "k-means": grid(KMeans(n_init=1, random_state=0), n_clusters=[2, 3]),
    "forest": forest,
    "predictions": lambda n: cross_val_predict(LogisticRegression(), X, y, cv=2, n_jobs=n),
    "importances": lambda n: (
        permutation_importance(
            LogisticRegression().fit(X, y), X, y, n_repeats=2, random_state=0, n_jobs=n
        ).importances
    ),
    "perceptron": learning_on(MLPClassifier((50,), max_iter=2, random_state=0)),
    "bayes": learning_on(GaussianNB()),
}


QUICK = ("forest in a grid", "pipeline", "forest", "bayes")


@pytest.mark.check
def test_the_same_as_with_one_job():
    check(QUICK)


@pytest.mark.slow
def test_others_are_the_same_too():
    check(name for name in CASES if name not in QUICK)


def check(names):
    with joblib.parallel_config(backend="onecopy"):
        for name in names:
            fit = CASES[name]
            alone, together = fit(1), fit(2)
            for one, other in zip(alone, together, strict=True):
                np.testing.assert_allclose(one, other, err_msg=name)
