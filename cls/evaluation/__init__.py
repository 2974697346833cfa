"""How well images are classified: by data set, by domain, by class, under shifted colours.

Numbers are pure functions in ``counting``; configs call ``cls.ClassificationMetric``. Results go
from ``results`` and ``seeds`` to the tables of ``report``, the figures of ``pictures`` and
``curves``, and the HTML of ``page``; ``appearance`` and ``styles`` shift what a model sees.
"""
