"""Why it answered so. `ct_xception.explain(classifier, "slice.png")` is `heat_map.explain_source`."""

from ct_xception.callable_package import make_callable

make_callable(__name__, "ct_xception.explain.heat_map.explain_source")
